package pricing

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/singleflight"
)

// Catalogue caches the SKUs that are sold. The whole cache is dropped when a price changes,
// and whenever a message about a change may have been missed.
type Catalogue struct {
	fetch  func(ctx context.Context) ([]string, error)
	flight singleflight.Group

	mu         sync.Mutex
	generation int // counts drops: what was fetched before a drop is not cached
	skus       map[string]bool
}

// NewCatalogue makes an empty cache; fetch returns all SKUs.
func NewCatalogue(fetch func(ctx context.Context) ([]string, error)) *Catalogue {
	return &Catalogue{fetch: fetch}
}

// Drop clears the cache.
func (c *Catalogue) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.skus = nil
}

// Knows returns a function that says whether a SKU is sold. It fetches the catalogue if it is
// not cached; concurrent calls share one fetch.
func (c *Catalogue) Knows(ctx context.Context) (func(sku string) bool, error) {
	c.mu.Lock()
	skus, generation := c.skus, c.generation
	c.mu.Unlock()
	if skus == nil {
		fetched, err, _ := c.flight.Do(fmt.Sprint(generation), func() (any, error) {
			return c.load(context.WithoutCancel(ctx), generation) // other calls wait for it too
		})
		if err != nil {
			return nil, fmt.Errorf("fetch the catalogue: %w", err)
		}
		skus, _ = fetched.(map[string]bool)
	}
	return func(sku string) bool { return skus[sku] }, nil
}

func (c *Catalogue) load(ctx context.Context, generation int) (map[string]bool, error) {
	list, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	skus := map[string]bool{}
	for _, sku := range list {
		skus[sku] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation == generation {
		c.skus = skus
	}
	return skus, nil
}
