package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging/messagingtest"
)

// orderView is an order as customers see it.
type orderView struct {
	ID      string         `json:"id"`
	Status  string         `json:"status"`
	Total   contract.Money `json:"total"`
	History []struct {
		Status string    `json:"status"`
		At     time.Time `json:"at"`
		Reason string    `json:"reason"`
	} `json:"history"`
}

func (o orderView) path() []string {
	var path []string
	for _, c := range o.History {
		path = append(path, c.Status)
	}
	return path
}

// movement is a capture or a refund at the provider.
type movement struct {
	PaymentID string         `json:"payment_id"`
	OrderID   string         `json:"order_id"`
	Amount    contract.Money `json:"amount"`
	At        time.Time      `json:"at"`
}

func orderBody(customer, tier, token, sku string) string {
	return fmt.Sprintf(`{"customer_id":%q,"region":"eu","tier":%q,"payment_token":%q,"items":[{"sku":%q,"quantity":2}]}`, customer, tier, token, sku)
}

// try posts an order and returns the answer.
func (s *system) try(url, key, body string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url+"/v1/orders", bytes.NewBufferString(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, answer, err
}

// place places an order that must be accepted.
func (s *system) place(customer, tier, token string) orderView {
	s.t.Helper()
	status, _, answer, err := s.try(s.orders[0].URL, "", orderBody(customer, tier, token, "mug"))
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusCreated, status, string(answer))
	var o orderView
	require.NoError(s.t, json.Unmarshal(answer, &o))
	return o
}

func (s *system) cancel(id string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.orders[0].URL+"/v1/orders/"+id+"/cancel", nil)
	require.NoError(s.t, err)
	res, err := s.http.Do(req)
	require.NoError(s.t, err)
	_ = res.Body.Close()
	return res.StatusCode
}

func (s *system) get(url string) (int, string) {
	res, err := s.http.Get(url) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}

func (s *system) getJSON(url string, into any) {
	s.t.Helper()
	status, body := s.get(url)
	require.Equal(s.t, http.StatusOK, status, body)
	require.NoError(s.t, json.Unmarshal([]byte(body), into))
}

// becomes waits until an order has a status.
func (s *system) becomes(id, status string) orderView {
	s.t.Helper()
	var o orderView
	messagingtest.Eventually(s.t, 60*time.Second, func() (bool, string) {
		s.getJSON(s.orders[0].URL+"/v1/orders/"+id, &o)
		return o.Status == status, fmt.Sprintf("%v", o.path())
	})
	return o
}

func (s *system) captures(orderID string) []movement {
	s.t.Helper()
	var answer struct {
		Captures []movement `json:"captures"`
	}
	s.getJSON("http://"+s.sandbox.Addr()+"/v1/captures?limit=1000&order_id="+orderID, &answer)
	return answer.Captures
}

func (s *system) refunds(orderID string) []movement {
	s.t.Helper()
	var answer struct {
		Refunds []movement `json:"refunds"`
	}
	s.getJSON("http://"+s.sandbox.Addr()+"/v1/refunds?order_id="+orderID, &answer)
	return answer.Refunds
}

// subjects are the subjects of a customer's mails.
func (s *system) subjects(customer string) []string {
	s.t.Helper()
	var answer struct {
		Mails []struct {
			Subject string `json:"subject"`
		} `json:"mails"`
	}
	s.getJSON("http://"+s.sandbox.Addr()+"/v1/mails?to="+customer+"@example.com", &answer)
	subjects := []string{}
	for _, m := range answer.Mails {
		subjects = append(subjects, m.Subject)
	}
	return subjects
}

// webhooks are the events of an order's webhooks.
func (s *system) webhooks(orderID string) []string {
	s.t.Helper()
	var answer struct {
		Webhooks []struct {
			Body struct {
				Event string `json:"event"`
			} `json:"body"`
		} `json:"webhooks"`
	}
	s.getJSON("http://"+s.sandbox.Addr()+"/v1/webhooks?order_id="+orderID, &answer)
	events := []string{}
	for _, w := range answer.Webhooks {
		events = append(events, w.Body.Event)
	}
	return events
}

// eventuallySame waits until a list has exactly these elements, in any order.
func (s *system) eventuallySame(want []string, have func() []string) {
	s.t.Helper()
	messagingtest.Eventually(s.t, 30*time.Second, func() (bool, string) {
		list := have()
		return sameElements(want, list), fmt.Sprintf("%q", list)
	})
}

func sameElements(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	count := map[string]int{}
	for _, x := range a {
		count[x]++
	}
	for _, x := range b {
		count[x]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
