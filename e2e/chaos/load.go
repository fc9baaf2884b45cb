package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// load is customers: each wants one order, and insists, with one key, until it is
// taken. A few change their minds afterwards.
type load struct {
	s       *system
	run     sync.WaitGroup
	places  chan struct{} // customers at once
	paused  sync.RWMutex
	mu      sync.Mutex
	ids     []string
	retries map[string]int // by what the answer was
	odd     []string       // answers that no customer should get
	gaveUp  int            // customers whose patience has ended
}

// tokens are what customers pay with; %d is a number that makes tok_flaky one of a kind.
var tokens = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_flaky_1"}

func newLoad(s *system) *load {
	return &load{s: s, places: make(chan struct{}, 256), retries: map[string]int{}}
}

// place sends customers at the rate until ctx is done. Those who have come stay
// until their orders are taken, or patience ends.
func (l *load) place(ctx, patience context.Context, rate float64) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.paused.RLock() // no new customers while somebody holds it
		select {
		case l.places <- struct{}{}:
			l.run.Go(func() { defer func() { <-l.places }(); l.insist(patience, n) })
		case <-ctx.Done():
		}
		l.paused.RUnlock()
	}
}

func (l *load) insist(ctx context.Context, n int) {
	tier := []string{"standard", "express"}[n%2]
	body := fmt.Sprintf(`{"customer_id":"customer%d","region":"eu","tier":%q,"payment_token":%q,"items":[{"sku":"mug","quantity":%d}]}`,
		n%500, tier, tokens[n%len(tokens)], 1+n%3)
	id := l.order(ctx, fmt.Sprintf("%s-%d", l.s.project, n), body)
	if id != "" && n%25 == 0 {
		l.changeMind(ctx, id)
	}
}

// order wants one order until it is taken, and gives its id, or nothing to a customer
// whose patience ends or who gets an answer that nobody should.
func (l *load) order(ctx context.Context, key, body string) (id string) {
	for {
		status, answer, err := l.post(ctx, "/v1/orders", key, body)
		var placed struct {
			ID string `json:"id"`
		}
		switch {
		case err == nil && (status == http.StatusCreated || status == http.StatusOK) && json.Unmarshal(answer, &placed) == nil:
			l.mu.Lock()
			l.ids = append(l.ids, placed.ID)
			l.mu.Unlock()
			return placed.ID
		case err != nil:
			l.again("no answer")
		case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
			l.again(fmt.Sprint(status))
		default:
			l.mu.Lock()
			l.odd = append(l.odd, fmt.Sprintf("%d %s", status, answer))
			l.mu.Unlock()
			return ""
		}
		if wait(ctx, 300*time.Millisecond) != nil {
			l.mu.Lock()
			l.gaveUp++
			l.mu.Unlock()
			return ""
		}
	}
}

// changeMind cancels an order: before its payment, after it, or when it is too late.
func (l *load) changeMind(ctx context.Context, id string) {
	for {
		status, _, err := l.post(ctx, "/v1/orders/"+id+"/cancel", "", "")
		if err == nil && status != http.StatusServiceUnavailable {
			return
		}
		if wait(ctx, 300*time.Millisecond) != nil {
			return
		}
	}
}

func (l *load) post(ctx context.Context, path, key, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.s.orders()+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := l.s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, answer, errors.Join(err, res.Body.Close())
}

func (l *load) again(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retries[why]++
}

func (l *load) accepted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.ids...)
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
