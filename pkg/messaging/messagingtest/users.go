package messagingtest

import (
	"net/http"
	"net/url"
	"testing"

	"example.com/orderflow/pkg/messaging"
)

// As gives the broker for another user. The user is made with these rights and tags in this
// virtual host, and is removed at the end of the test. No other test should use the name,
// since users belong to the whole broker.
func (b *BrokerInfo) As(t testing.TB, user messaging.User) *BrokerInfo {
	t.Helper()
	t.Cleanup(func() { b.Management(t, http.MethodDelete, "/api/users/"+user.Name, nil, nil) })
	return b.withUser(t, user)
}

func (b *BrokerInfo) withUser(t failer, user messaging.User) *BrokerInfo {
	t.Helper()
	err := messaging.ApplyUsers(t.Context(), b.Admin(), []messaging.User{user}, func(string) (string, error) { return adminPassword, nil })
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user.Name, adminPassword)
	other := *b
	other.User, other.Password, other.URL = user.Name, adminPassword, u.String()
	return &other
}
