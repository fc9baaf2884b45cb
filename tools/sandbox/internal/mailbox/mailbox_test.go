package mailbox_test

import (
	"context"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/messaging/messagingtest"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/internal/fault"
	"example.com/orderflow/tools/sandbox/internal/mailbox"
	"example.com/orderflow/tools/sandbox/internal/postgres"
)

type fixture struct {
	addr   string
	store  *postgres.Store
	pool   *pgxpool.Pool
	faults *fault.Switches
}

// setup starts a server that requires no login.
func setup(t *testing.T) *fixture {
	t.Helper()
	return setupFor(t, mailbox.Login{})
}

// setupFor starts a server that requires a login.
func setupFor(t *testing.T, login mailbox.Login) *fixture {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), messagingtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, service.Migrate(t.Context(), pool, service.Migrations{VersionTable: "sandbox_version", Files: postgres.Migrations}))
	store := postgres.NewStore(pool)
	faults := &fault.Switches{}
	server, err := mailbox.NewServer("127.0.0.1:0", login, store, faults, zap.NewNop())
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown(context.Background()))
		require.NoError(t, <-served)
	})
	return &fixture{server.Addr(), store, pool, faults}
}

func (f *fixture) send(mail string, to ...string) error {
	return smtp.SendMail(f.addr, nil, "shop@example.com", to, []byte(strings.ReplaceAll(mail, "\n", "\r\n")))
}

func TestMail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.send(`From: shop@example.com
Subject: =?UTF-8?q?Gr=C3=BC=C3=9Fe_=E2=82=AC?=
X-Dedupe-Key: receipt:p1
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

19.99 =E2=82=AC, thank =
you.
`, "ada@example.com", "grace@example.com"))

	all, err := f.store.Mails(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, all, 2, "one for each recipient")
	mails, err := f.store.Mails(t.Context(), "ada@example.com", 10)
	require.NoError(t, err)
	require.Len(t, mails, 1)
	require.Equal(t, "shop@example.com", mails[0].From)
	require.Equal(t, "Grüße €", mails[0].Subject)
	require.Equal(t, "19.99 €, thank you.", strings.TrimSpace(mails[0].Text))
	require.Equal(t, "receipt:p1", mails[0].DedupeKey)
}

func TestPlainMail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.send("Subject: plain\n\n.a line with a dot\n", "ada@example.com"))
	mails, err := f.store.Mails(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, "plain", mails[0].Subject)
	require.Equal(t, ".a line with a dot", strings.TrimSpace(mails[0].Text))
	require.Empty(t, mails[0].DedupeKey)
}

func TestRefusedMail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var refused *textproto.Error
	require.ErrorAs(t, f.send("this is no mail", "ada@example.com"), &refused)
	require.Equal(t, 554, refused.Code, "permanent")
	f.pool.Close()
	require.ErrorAs(t, f.send("Subject: later\n\n", "ada@example.com"), &refused)
	require.Equal(t, 451, refused.Code, "temporary")
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := setupFor(t, mailbox.Login{User: "shop", Password: "s3cret"})
	send := func(auth smtp.Auth) error {
		return smtp.SendMail(f.addr, auth, "shop@example.com", []string{"ada@example.com"}, []byte("Subject: hello\r\n\r\n"))
	}
	require.NoError(t, send(smtp.CRAMMD5Auth("shop", "s3cret")))
	for code, auth := range map[int][]smtp.Auth{
		530: {nil},
		535: {smtp.CRAMMD5Auth("shop", "wrong"), smtp.CRAMMD5Auth("other", "s3cret"), smtp.CRAMMD5Auth("", "")},
		504: {smtp.PlainAuth("", "shop", "s3cret", "127.0.0.1")},
	} {
		for _, a := range auth {
			var refused *textproto.Error
			require.ErrorAs(t, send(a), &refused)
			require.Equal(t, code, refused.Code)
		}
	}
	mails, err := f.store.Mails(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, mails, 1)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	f := setup(t)
	set := func(name, value string) {
		t.Helper()
		require.NoError(t, f.faults.Set(fault.Fault{Name: name, Value: value}))
	}
	// A client that connected before the fault.
	client, err := smtp.Dial(f.addr)
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	require.NoError(t, client.Noop())

	var refused *textproto.Error
	for code, want := range map[string]int{"421": 421, "451": 451, "550": 550} {
		set("mail.refuse", code)
		require.ErrorAs(t, f.send("Subject: hello\n\n", "ada@example.com"), &refused)
		require.Equal(t, want, refused.Code)
	}
	set("mail.down", "")
	_, err = smtp.Dial(f.addr)
	require.Error(t, err, "new connections are closed")
	require.NotErrorAs(t, err, &refused)
	require.Error(t, client.Mail("shop@example.com"), "and open ones too")

	f.faults.ClearAll()
	set("mail.slow", "300ms")
	started := time.Now()
	require.NoError(t, f.send("Subject: hello\n\n", "ada@example.com"))
	require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
	mails, err := f.store.Mails(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, mails, 1, "a refused mail is not stored")
}

func TestNewServer(t *testing.T) {
	t.Parallel()
	_, err := mailbox.NewServer("127.0.0.1:nonsense", mailbox.Login{}, nil, nil, zap.NewNop())
	require.ErrorContains(t, err, "SMTP_LISTEN_ADDR")
	never, err := mailbox.NewServer("127.0.0.1:0", mailbox.Login{}, nil, nil, zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, never.Shutdown(t.Context()), "a server that was never served")
	again, err := mailbox.NewServer(never.Addr(), mailbox.Login{}, nil, nil, zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, again.Shutdown(t.Context()))
}
