package contract_test

import (
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
)

func TestCustomerID(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "7", "ada", "Ada.Lovelace", "a-b", "a_b", "a.-b", "a--b", "a-", "a_", strings.Repeat("c", 64), "a" + strings.Repeat(".b", 31)} {
		require.True(t, contract.ValidCustomerID(good), good)
	}
	for _, bad := range []string{
		"", ".", "a.", ".a", "a..b", "a...b", "a.b.", "-a", "_a", "a b", "a@b", "a+b", "a/b", "a\n", "\na", "a\x00", "ä", "a\u200b",
		strings.Repeat("c", 65), "a" + strings.Repeat(".b", 32),
	} {
		require.False(t, contract.ValidCustomerID(bad), bad)
	}
}

// Every customer id that orders accepts makes a valid mail address.
func FuzzEveryCustomerHasAnAddress(f *testing.F) {
	for _, seed := range []string{"ada", "a..b", "a.", "a.-b", "a_", "-a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if !contract.ValidCustomerID(id) {
			return
		}
		address := contract.DefaultAddress(id)
		parsed, err := mail.ParseAddress(address)
		require.NoError(t, err)
		require.Equal(t, address, parsed.Address)
	})
}
