package messages

import (
	"testing"

	"example.com/orderflow/pkg/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }
