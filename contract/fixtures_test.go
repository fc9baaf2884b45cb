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
	contract.OrderPlaced.Name:        contract.OrderEvent{},
	contract.OrderPaid.Name:          contract.OrderEvent{},
	contract.OrderDeclined.Name:      contract.OrderEvent{},
	contract.OrderCancelled.Name:     contract.OrderEvent{},
	contract.OrderRefunded.Name:      contract.OrderEvent{},
	contract.PaymentDeadline.Name:    contract.DeadlineBody{},
	contract.Charge.Name:             contract.ChargeCommand{},
	contract.Refund.Name:             contract.RefundCommand{},
	contract.PaymentCaptured.Name:    contract.PaymentEvent{},
	contract.PaymentDeclined.Name:    contract.PaymentEvent{},
	contract.PaymentRefunded.Name:    contract.PaymentEvent{},
	contract.Quote.Name:              contract.QuoteRequest{},
	contract.QuoteReplyType.Name:     contract.QuoteReply{},
	contract.Catalogue.Name:          contract.CatalogueRequest{},
	contract.CatalogueReplyType.Name: contract.CatalogueReply{},
	contract.PriceChanged.Name:       contract.PriceChange{},
	contract.NotificationType.Name:   contract.Notification{},
	contract.HeartbeatType.Name:      contract.Heartbeat{},
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
			// Encoded again it is the same: the fixture leaves no field out.
			again, err := json.Marshal(into.Interface())
			require.NoError(t, err)
			require.JSONEq(t, string(fixture), string(again))
		})
	}
}
