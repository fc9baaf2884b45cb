package contract_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
)

// bodies has the published struct of each message type.
var bodies = map[string]any{
	contract.OrderPlaced.Name:           contract.OrderBody{},
	contract.OrderPaid.Name:             contract.OrderBody{},
	contract.OrderDeclined.Name:         contract.OrderBody{},
	contract.OrderCancelled.Name:        contract.OrderBody{},
	contract.OrderRefunded.Name:         contract.OrderBody{},
	contract.PaymentDeadline.Name:       contract.PaymentDeadlineBody{},
	contract.Charge.Name:                contract.ChargeBody{},
	contract.Refund.Name:                contract.RefundBody{},
	contract.PaymentCaptured.Name:       contract.PaymentBody{},
	contract.PaymentDeclined.Name:       contract.PaymentBody{},
	contract.PaymentRefunded.Name:       contract.PaymentBody{},
	contract.PricingQuote.Name:          contract.PricingQuoteBody{},
	contract.PricingQuoteReply.Name:     contract.PricingQuoteReplyBody{},
	contract.PricingCatalogue.Name:      contract.PricingCatalogueBody{},
	contract.PricingCatalogueReply.Name: contract.PricingCatalogueReplyBody{},
	contract.PriceChanged.Name:          contract.PriceChangedBody{},
	contract.Notification.Name:          contract.NotificationBody{},
	contract.Heartbeat.Name:             contract.HeartbeatBody{},
}

func TestEveryTypeHasAFixtureAndABody(t *testing.T) {
	t.Parallel()
	var types, published []string
	for _, kind := range contract.All(0).Types {
		types = append(types, kind.Name)
	}
	for name := range bodies {
		published = append(published, name)
	}
	files, err := fs.Glob(contract.Fixtures, "testdata/*.json")
	require.NoError(t, err)
	for i, f := range files {
		files[i] = strings.TrimSuffix(strings.TrimPrefix(f, "testdata/"), ".json")
	}
	require.ElementsMatch(t, types, published)
	require.ElementsMatch(t, types, files)

	_, err = contract.Fixture("nothing.v1")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFixturesAreWhatIsPublished(t *testing.T) {
	t.Parallel()
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture, err := contract.Fixture(name)
			require.NoError(t, err)
			into := reflect.New(reflect.TypeOf(body))
			strict := json.NewDecoder(bytes.NewReader(fixture))
			strict.DisallowUnknownFields()
			require.NoError(t, strict.Decode(into.Interface()))
			// Encoded again, it is the same: the fixture has all fields.
			again, err := json.Marshal(into.Interface())
			require.NoError(t, err)
			require.JSONEq(t, string(fixture), string(again))
		})
	}
}
