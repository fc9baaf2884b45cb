package inbox

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"example.com/orderflow/pkg/messaging"
)

// Verdict classifies an error of PostgreSQL for the message that was handled. SQLSTATE class
// 22 (data exceptions: a NUL in a text, bytes that are not UTF-8, a number out of range) and
// 54000 (a value too long for an index) will come again with every attempt: they become
// [messaging.Permanent]. Errors that say that the database cannot be reached, starts or
// stops, has no space or accepts no more connections become [messaging.Unavailable]. Other
// errors, nil, and errors that are marked already stay as they are.
//
// The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
func Verdict(err error) error {
	switch {
	case err == nil, messaging.IsPermanent(err), messaging.IsUnavailable(err):
		return err
	case isUnstorable(err):
		return messaging.Permanent(err)
	case isAway(err):
		return messaging.Unavailable(err)
	default:
		return err
	}
}

func isUnstorable(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "22") || refused.Code == "54000")
}

// isAway says whether the database could not work at all, or whether that is unknown.
func isAway(err error) bool {
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) { // for any reason: a wrong password does not depend on the message either
		return true
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case "25006", // read_only_sql_transaction: this is a standby now
			"25P03",                            // idle_in_transaction_session_timeout
			"57P01", "57P02", "57P03", "57P04", // shut down, crashed, starting, dropped
			"57P05": // idle_session_timeout
			return true
		}
		class := refused.Code[:min(2, len(refused.Code))]
		return class == "08" || class == "53" || class == "58" // connection, resources, system
	}
	var network net.Error // a deadline too: of a query, or of waiting for a connection
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err) && !errors.Is(err, context.Canceled)
}
