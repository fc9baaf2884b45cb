package pricing_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/services/orders/internal/order"
	"example.com/orderflow/services/orders/internal/pricing"
)

const password = "test-only"

// setup makes a client with a real broker, and serve, which answers its calls as pricing-rpc.
func setup(t *testing.T) (client *pricing.Client, serve func(contract.PricingQuoteReplyBody, error)) {
	t.Helper()
	broker := messagingtest.Broker(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topology := contract.All(0)
	require.NoError(t, messaging.Apply(ctx, broker.Admin(), topology))
	require.NoError(t, messaging.ApplyUsers(ctx, broker.Admin(), topology.Users, func(string) (string, error) { return password, nil }))
	as := func(user string) *messaging.Conn {
		config := broker.Config()
		config.User, config.Password = user, password
		return broker.Connect(t, config)
	}
	return pricing.NewClient(as(contract.OrdersUser).Caller()), func(reply contract.PricingQuoteReplyBody, refusal error) {
		server := as(contract.PricingUser)
		answers, err := server.Publisher()
		require.NoError(t, err)
		mux := messaging.NewMux("")
		mux.Handle(contract.PricingQuote, messaging.Serve(answers, contract.PricingQuoteProcedure,
			func(context.Context, *messaging.Delivery, contract.PricingQuoteBody) (contract.PricingQuoteReplyBody, error) {
				return reply, refusal
			}))
		mux.Handle(contract.PricingCatalogue, messaging.Serve(answers, contract.PricingCatalogueProcedure,
			func(context.Context, *messaging.Delivery, contract.PricingCatalogueBody) (contract.PricingCatalogueReplyBody, error) {
				return contract.PricingCatalogueReplyBody{Prices: []contract.Price{{SKU: "mug"}}}, nil
			}))
		consumer, err := server.Consume(contract.PricingQuoteQueue, mux.Handler())
		require.NoError(t, err)
		messagingtest.Eventually(t, 30*time.Second, func() (bool, string) {
			err := consumer.Ready()
			return err == nil, "the server is not ready"
		})
	}
}

var items = []order.Item{{SKU: "mug", Quantity: 2}}

func eur(minor int64) contract.Money {
	return contract.Money{AmountMinor: minor, Currency: contract.Currency}
}

func quote(unit int64) contract.PricingQuoteReplyBody {
	return contract.PricingQuoteReplyBody{
		Lines: []contract.QuoteLine{{SKU: "mug", Quantity: 2, Unit: eur(unit), Total: eur(2 * unit)}}, Total: eur(2 * unit),
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	client, serve := setup(t)
	_, err := client.Quote(t.Context(), items)
	require.ErrorIs(t, err, order.ErrPricingAway)
	_, err = client.Knows(t.Context())
	require.ErrorIs(t, err, order.ErrPricingAway)

	serve(quote(1290), nil)
	total, err := client.Quote(t.Context(), items)
	require.NoError(t, err)
	require.Equal(t, eur(2580), total)
	knows, err := client.Knows(t.Context())
	require.NoError(t, err)
	require.True(t, knows("mug"))
	require.False(t, knows("unicorn"))
}

func TestQuoteIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		reply  contract.PricingQuoteReplyBody
		refuse error
		want   order.Invalid // nil for another error
	}{
		{"by field", quote(1), &messaging.RemoteError{Code: contract.CodeUnknownSKU, Message: "no", Fields: map[string]string{"items[0].sku": "unknown"}}, order.Invalid{"items[0].sku": "unknown"}},
		{"as a whole", quote(1), &messaging.RemoteError{Code: contract.CodeInvalidRequest, Message: "too much"}, order.Invalid{"items": "too much"}},
		{"by a quote for other items", contract.PricingQuoteReplyBody{Total: eur(1)}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, serve := setup(t)
			serve(c.reply, c.refuse)
			_, err := client.Quote(t.Context(), items)
			require.Error(t, err)
			require.NotErrorIs(t, err, order.ErrPricingAway)
			var invalid order.Invalid
			if c.want == nil {
				require.NotErrorAs(t, err, &invalid)
				return
			}
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, c.want, invalid)
		})
	}
}
