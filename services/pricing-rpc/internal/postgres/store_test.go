package postgres_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service/servicetest"
	"example.com/orderflow/services/pricing-rpc/internal/postgres"
	"example.com/orderflow/services/pricing-rpc/internal/pricing"
)

type fixture struct {
	*postgres.Store
}

func setup(t *testing.T) *fixture {
	t.Helper()
	db := servicetest.NewDB(t, postgres.Migrations)
	return &fixture{postgres.NewStore(db.DB)}
}

func price(sku string, minor int64) pricing.Price {
	return pricing.Price{SKU: sku, Name: "Something", Price: contract.Money{AmountMinor: minor, Currency: contract.Currency}}
}

func (f *fixture) catalogue(t *testing.T) pricing.Catalogue {
	t.Helper()
	c, err := f.Catalogue(t.Context())
	require.NoError(t, err)
	return c
}

type row struct {
	Key, Exchange, Route string
	Message              messaging.Message
}

func (f *fixture) outbox(t *testing.T) []row {
	t.Helper()
	rows, err := f.Pool().Query(t.Context(), `SELECT key, exchange, route, message FROM outbox ORDER BY id`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	return list
}

func TestSeed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.catalogue(t)
	require.Equal(t, int64(1), c.Version)
	require.Len(t, c.Prices, 8)
	require.IsIncreasing(t, skus(c))
	for _, p := range c.Prices {
		require.NoError(t, p.Validate())
		require.Equal(t, int64(1), p.Version)
	}
	require.Empty(t, f.outbox(t))
}

func skus(c pricing.Catalogue) (list []string) {
	for _, p := range c.Prices {
		list = append(list, p.SKU)
	}
	return list
}

func TestPut(t *testing.T) {
	t.Parallel()

	t.Run("changes a price and publishes it", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		want := price("mug", 1390)
		want.Version = 2
		got, err := f.Put(t.Context(), price("mug", 1390))
		require.NoError(t, err)
		require.Equal(t, want, got)

		c := f.catalogue(t)
		require.Equal(t, int64(2), c.Version)
		require.Len(t, c.Prices, 8)
		require.Contains(t, c.Prices, want)

		waiting := f.outbox(t)
		require.Len(t, waiting, 1)
		m := waiting[0].Message
		require.Equal(t, row{Key: "mug", Exchange: contract.PricesChanged, Message: m}, waiting[0])
		require.Equal(t, contract.PriceChanged.Name, m.Type)
		require.Equal(t, "mug", m.CorrelationID)
		var body contract.PriceChangedBody
		require.NoError(t, json.Unmarshal(m.Body, &body))
		require.Equal(t, contract.PriceChangedBody{SKU: "mug", Price: want.Price, Version: 2}, body)
	})

	t.Run("adds a price", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		added, err := f.Put(t.Context(), price("apron", 1990))
		require.NoError(t, err)
		c := f.catalogue(t)
		require.Len(t, c.Prices, 9)
		require.Equal(t, added, c.Prices[0])
		require.Len(t, f.outbox(t), 1)
	})

	t.Run("all or nothing", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		before := f.catalogue(t)
		_, err := f.Put(t.Context(), price("mug", 0)) // refused by the table
		require.Error(t, err)
		_, err = f.Pool().Exec(t.Context(), `ALTER TABLE outbox ADD CHECK (key <> 'mug')`)
		require.NoError(t, err)
		_, err = f.Put(t.Context(), price("mug", 1390)) // refused by the outbox, which is the last step
		require.Error(t, err)
		require.Equal(t, before, f.catalogue(t))
		require.Empty(t, f.outbox(t))
	})

	t.Run("gives each of 8 concurrent changes its own version", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		versions := make([]int64, 8)
		errs := make([]error, len(versions))
		var wg sync.WaitGroup
		for i := range versions {
			wg.Go(func() {
				p, err := f.Put(t.Context(), price("mug", int64(1000+i)))
				versions[i], errs[i] = p.Version, err
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		require.ElementsMatch(t, []int64{2, 3, 4, 5, 6, 7, 8, 9}, versions)
		require.Equal(t, int64(9), f.catalogue(t).Version)

		var told []int64 // in the order of the versions
		for _, r := range f.outbox(t) {
			var body contract.PriceChangedBody
			require.NoError(t, json.Unmarshal(r.Message.Body, &body))
			told = append(told, body.Version)
		}
		require.Equal(t, []int64{2, 3, 4, 5, 6, 7, 8, 9}, told)
	})
}

// A quote reads the prices that it needs, at the catalogue's version.
func TestPrices(t *testing.T) {
	t.Parallel()
	f := setup(t)
	got, err := f.Prices(t.Context(), []string{"tshirt", "mug", "unicorn", "mug"})
	require.NoError(t, err)
	require.Equal(t, []string{"mug", "tshirt"}, skus(got))
	require.Equal(t, int64(1), got.Version)
	for _, none := range [][]string{nil, {}, {"unicorn"}} {
		got, err = f.Prices(t.Context(), none)
		require.NoError(t, err)
		require.Equal(t, pricing.Catalogue{Version: 1}, got)
	}
	_, err = f.Pool().Exec(t.Context(), `DELETE FROM prices`)
	require.NoError(t, err)
	require.Equal(t, pricing.Catalogue{Version: 1}, f.catalogue(t), "a catalogue may be empty")
}

// Prices that change while they are read come from one version of the catalogue.
func TestOneVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const changes = 50
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range changes {
			if _, err := f.Put(t.Context(), price("mug", int64(1000+i))); err != nil {
				t.Error(err)
			}
		}
	})
	for version := int64(1); version < changes+1; {
		got, err := f.Prices(t.Context(), []string{"mug"})
		require.NoError(t, err)
		version = got.Version
		require.Equal(t, version, got.Prices[0].Version, "mug alone changes")
	}
	writing.Wait()
}
