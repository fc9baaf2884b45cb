// Package postgres has the database of pricing-rpc.
package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/messaging/outbox"
	"example.com/orderflow/pkg/messaging/transactional"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations make the schema and a first catalogue.
func Migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

// Store is pricing-rpc's database.
type Store struct{ *transactional.DB }

// NewStore makes a store.
func NewStore(db *transactional.DB) *Store { return &Store{db} }

// Catalogue returns all prices, sorted by SKU, of one version.
func (s *Store) Catalogue(ctx context.Context) (pricing.Catalogue, error) {
	return s.read(ctx, `true`)
}

// Prices returns the prices of those of the SKUs that exist, of one version.
func (s *Store) Prices(ctx context.Context, skus []string) (pricing.Catalogue, error) {
	return s.read(ctx, `sku = ANY ($1)`, skus)
}

// read uses one statement, so it reads one version, also when prices change at the same time.
func (s *Store) read(ctx context.Context, which string, args ...any) (c pricing.Catalogue, err error) {
	rows, err := s.Pool().Query(ctx, `SELECT c.version, p.sku, p.name, p.amount_minor, p.currency, p.version
		FROM catalogue c LEFT JOIN (SELECT * FROM prices WHERE `+which+`) p ON true ORDER BY p.sku`, args...)
	if err != nil {
		return c, fmt.Errorf("read the catalogue: %w", err)
	}
	var sku, name, currency *string // all are null if the catalogue has no prices: then there is one row
	var amount, version *int64
	_, err = pgx.ForEachRow(rows, []any{&c.Version, &sku, &name, &amount, &currency, &version}, func() error {
		if sku != nil {
			c.Prices = append(c.Prices, pricing.Price{
				SKU: *sku, Name: *name, Price: contract.Money{AmountMinor: *amount, Currency: *currency}, Version: *version,
			})
		}
		return nil
	})
	if err != nil {
		return pricing.Catalogue{}, fmt.Errorf("read the catalogue: %w", err)
	}
	return c, nil
}

// Put sets a price and adds price.changed.v1 to the outbox, in one transaction.
func (s *Store) Put(ctx context.Context, p pricing.Price) (pricing.Price, error) {
	err := s.Do(ctx, func(tx *transactional.Tx) error {
		// The row of the catalogue is locked, so all changes are made one after the other.
		if err := tx.QueryRow(ctx, `UPDATE catalogue SET version = version + 1 RETURNING version`).Scan(&p.Version); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO prices (sku, name, amount_minor, currency, version) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (sku) DO UPDATE SET name = $2, amount_minor = $3, currency = $4, version = $5`,
			p.SKU, p.Name, p.Price.AmountMinor, p.Price.Currency, p.Version)
		if err != nil {
			return err
		}
		m, err := messaging.NewMessage(contract.PriceChanged, contract.PriceChangedBody{SKU: p.SKU, Price: p.Price, Version: p.Version})
		if err != nil {
			return err
		}
		m.CorrelationID = p.SKU
		return outbox.Add(ctx, tx, p.SKU, messaging.Route{Exchange: contract.PricesChanged}, m)
	})
	if err != nil {
		return p, fmt.Errorf("set a price: %w", err)
	}
	return p, nil
}
