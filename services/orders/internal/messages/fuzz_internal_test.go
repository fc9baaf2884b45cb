package messages

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

func FuzzPayment(f *testing.F) {
	captured, err := contract.Fixture(contract.PaymentCaptured.Name)
	require.NoError(f, err)
	declined, err := contract.Fixture(contract.PaymentDeclined.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON[payment](f, nil, captured, declined)
}

func FuzzDeadline(f *testing.F) {
	seed, err := contract.Fixture(contract.PaymentDeadline.Name)
	require.NoError(f, err)
	messagingtest.FuzzJSON[deadline](f, nil, seed)
}
