// Package load places orders on a running system, as many customers do, and measures how
// far the orders are.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// atOnce is how many customers there may be at the same time.
	atOnce = 256
	// retryAfter is how long a customer waits before the next try.
	retryAfter = 300 * time.Millisecond
)

// tokens are what customers pay with, in turn.
var tokens = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_flaky_1"}

// Customers place orders. Each wants one, and tries again with the same idempotency key
// until it is accepted. A few cancel theirs afterwards.
type Customers struct {
	url    func() string // of orders, asked before each request
	client *http.Client
	keys   string // the idempotency keys' beginning

	running sync.WaitGroup
	slots   chan struct{} // one for each customer who is there
	coming  sync.RWMutex  // held for reading while a customer comes, for writing while none may

	mu         sync.Mutex
	accepted   []string
	retries    map[string]int
	unexpected []string
	gaveUp     int
}

// NewCustomers gives customers of the orders services whose URLs url gives in turn. keys
// is what their idempotency keys begin with.
func NewCustomers(url func() string, client *http.Client, keys string) *Customers {
	return &Customers{url: url, client: client, keys: keys, slots: make(chan struct{}, atOnce), retries: map[string]int{}}
}

// Place lets customers come at the rate, in orders a second, until ctx is done, and
// returns then. Those who have come stay until their orders are accepted, or until
// giveUp is done: see Wait.
func (c *Customers) Place(ctx, giveUp context.Context, rate float64) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.coming.RLock()
		select {
		case c.slots <- struct{}{}:
			c.running.Go(func() { defer func() { <-c.slots }(); c.shop(giveUp, n) })
		case <-ctx.Done():
		}
		c.coming.RUnlock()
	}
}

// Wait waits, after Place has returned, until every customer is gone.
func (c *Customers) Wait() { c.running.Wait() }

// Pause lets no new customers come until resume is called.
func (c *Customers) Pause() (resume func()) {
	c.coming.Lock()
	return c.coming.Unlock
}

// PreventPause lets Pause wait until allow is called.
func (c *Customers) PreventPause() (allow func()) {
	c.coming.RLock()
	return c.coming.RUnlock
}

// There is how many customers are there: their orders are not answered yet.
func (c *Customers) There() int { return len(c.slots) }

// shop is what the n-th customer does.
func (c *Customers) shop(giveUp context.Context, n int) {
	tier := []string{"standard", "express"}[n%2]
	body := fmt.Sprintf(`{"customer_id":"customer%d","region":"eu","tier":%q,"payment_token":%q,"items":[{"sku":"mug","quantity":%d}]}`,
		n%500, tier, tokens[n%len(tokens)], 1+n%3)
	id := c.Order(giveUp, fmt.Sprint(n), body)
	if id != "" && n%25 == 0 {
		c.cancel(giveUp, id)
	}
}

// Order places one order, and tries again until it is accepted. It gives the order's id, or
// nothing when ctx is done or the answer is one that no customer should get. The
// idempotency key is the customers' beginning and this key.
func (c *Customers) Order(ctx context.Context, key, body string) (id string) {
	for {
		status, answer, err := c.post(ctx, "/v1/orders", c.keys+"-"+key, body)
		var placed struct {
			ID string `json:"id"`
		}
		switch {
		case err == nil && (status == http.StatusCreated || status == http.StatusOK) && json.Unmarshal(answer, &placed) == nil:
			c.note(func() { c.accepted = append(c.accepted, placed.ID) })
			return placed.ID
		case err != nil:
			c.note(func() { c.retries["no answer"]++ })
		case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
			c.note(func() { c.retries[fmt.Sprint(status)]++ })
		default:
			c.note(func() { c.unexpected = append(c.unexpected, fmt.Sprintf("%d %s", status, answer)) })
			return ""
		}
		if !again(ctx) {
			c.note(func() { c.gaveUp++ })
			return ""
		}
	}
}

// cancel cancels an order: before its payment, after it, or when it is too late.
func (c *Customers) cancel(ctx context.Context, id string) {
	for {
		status, _, err := c.post(ctx, "/v1/orders/"+id+"/cancel", "", "")
		if err == nil && status != http.StatusServiceUnavailable {
			return
		}
		if !again(ctx) {
			return
		}
	}
}

func (c *Customers) post(ctx context.Context, path, key, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url()+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, answer, errors.Join(err, res.Body.Close())
}

func (c *Customers) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// Accepted are the ids of the orders that were accepted, in that order.
func (c *Customers) Accepted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.accepted)
}

// GaveUp is how many customers never got an answer.
func (c *Customers) GaveUp() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gaveUp
}

// Retries is how often customers tried again, by the answer that they got.
func (c *Customers) Retries() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.retries)
}

// Unexpected are the answers that no customer should get.
func (c *Customers) Unexpected() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.unexpected)
}

// again waits before the next try. It gives false when ctx is done.
func again(ctx context.Context) bool {
	select {
	case <-time.After(retryAfter):
		return true
	case <-ctx.Done():
		return false
	}
}
