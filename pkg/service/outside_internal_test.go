package service

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, value, date string
		want              time.Duration
	}{
		{"none", "", "", 0},
		{"seconds", "30", "", 30 * time.Second},
		{"zero", "0", "", 0},
		{"too long", "86400", "", 5 * time.Minute},
		{"more than fits", "9223372036854775807", "", 5 * time.Minute},
		{"more than fits by far", "99999999999999999999999", "", 0},
		{"negative", "-1", "", 0},
		{"fraction", "1.5", "", 0},
		{"nonsense", "soon", "", 0},
		{"a date", "Fri, 27 Nov 2026 12:00:40 GMT", "", 40 * time.Second},
		{"a date of the old form", "Friday, 27-Nov-26 12:00:40 GMT", "", 40 * time.Second},
		{"a date that is over", "Fri, 27 Nov 2026 11:59:00 GMT", "", 0},
		{"a date far away", "Sat, 27 Nov 2027 12:00:00 GMT", "", 5 * time.Minute},
		{"a date by the other's clock", "Fri, 27 Nov 2026 11:00:40 GMT", "Fri, 27 Nov 2026 11:00:00 GMT", 40 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{"Retry-After": {c.value}, "Date": {c.date}}
			require.Equal(t, c.want, retryAfter(h, now))
		})
	}
}
