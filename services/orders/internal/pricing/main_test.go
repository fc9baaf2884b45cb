package pricing_test

import (
	"testing"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }
