package contract_test

import (
	"testing"

	"example.com/orderflow/contract"
)

func TestTopologyIsValid(t *testing.T) {
	t.Parallel()
	if err := contract.All(0).Validate(); err != nil {
		t.Fatal(err)
	}
}
