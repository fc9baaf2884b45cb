package notify_test

import (
	"bufio"
	"context"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
	"example.com/orderflow/services/notifier/internal/notify"
)

func TestNewEmail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, addr, from, want string }{
		{"right", "mail:2525", "shop@example.com", ""},
		{"an address", "[::1]:25", "shop@example.com", ""},
		{"no port", "mail", "shop@example.com", "SMTP_ADDR"},
		{"port is no number", "mail:smtp", "shop@example.com", "SMTP_ADDR"},
		{"port is zero", "mail:0", "shop@example.com", "SMTP_ADDR"},
		{"port is too high", "mail:65536", "shop@example.com", "SMTP_ADDR"},
		{"no host", ":25", "shop@example.com", "SMTP_ADDR"},
		{"a URL", "smtp://mail:25", "shop@example.com", "SMTP_ADDR"},
		{"a user", "ada@mail:25", "shop@example.com", "SMTP_ADDR"},
		{"a space", "ma il:25", "shop@example.com", "SMTP_ADDR"},
		{"sender is no address", "mail:2525", "shop", "MAIL_FROM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := notify.NewEmail(notify.SMTP{Addr: c.addr, StartTLS: true, From: c.from})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// mailServer is an SMTP server that refuses one command and accepts all others.
type mailServer struct {
	net.Listener
	// at is the refused command ("" is the greeting, "." the end of a mail), and no the
	// answer. If no is empty, the server does not answer.
	at, no string
	ended  chan struct{} // one for each connection that has ended
	// The required login; empty means none.
	user     string
	password service.Secret
}

func newMailServer(t *testing.T, at, no string) *mailServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &mailServer{Listener: listener, at: at, no: no, ended: make(chan struct{}, 10)}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *mailServer) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.ended <- struct{}{}
	}()
	lines := textproto.NewReader(bufio.NewReader(conn))
	say := func(verb, yes string) {
		if verb == s.at {
			yes = s.no
		}
		if yes != "" {
			_, _ = conn.Write([]byte(yes + "\r\n"))
		}
	}
	say("", "220 mail")
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(line, " ")
		if verb != "DATA" {
			yes := "250 yes"
			if verb == "EHLO" {
				yes = "250-mail\r\n250 AUTH CRAM-MD5"
			}
			say(verb, yes)
			continue
		}
		say(verb, "354 go on")
		if s.at == verb {
			continue
		}
		if _, err := lines.ReadDotBytes(); err != nil {
			return
		}
		say(".", "250 yes")
	}
}

func (s *mailServer) send(ctx context.Context, t *testing.T) error {
	t.Helper()
	email, err := notify.NewEmail(notify.SMTP{Addr: s.Addr().String(), From: "shop@example.com", User: s.user, Password: s.password})
	require.NoError(t, err)
	return email.Send(ctx, "ada@example.com", "s", "b", "k")
}

func TestWhatAMailServerSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, at, no, want string }{
		{"yes", "nowhere", "", "sent"},
		{"a goodbye that fails", "QUIT", "500 no", "sent"},
		{"a reset that fails after the mail", "RSET", "500 no", "sent"},
		{"shutting down", "", "421 later", "away"},
		{"nobody may send here", "", "554 no", "away"},
		{"an old server", "EHLO", "500 what", "sent"},
		{"a sender that is not ours", "MAIL", "550 no", "away"},
		{"log in first", "MAIL", "530 no", "away"},
		{"busy", "MAIL", "451 later", "away"},
		{"log in first, said late", "RCPT", "530 no", "away"},
		{"a full mailbox", "RCPT", "452 later", "away"},
		{"greylisted", "RCPT", "450 later", "away"},
		{"nobody of that name", "RCPT", "550 no", "refused"},
		{"no mail now", "DATA", "451 later", "away"},
		{"no mail", "DATA", "554 no", "refused"},
		{"the mail cannot be kept now", ".", "452 later", "away"},
		{"the mail is spam", ".", "554 no", "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newMailServer(t, c.at, c.no)
			err := s.send(t.Context(), t)
			require.Equal(t, c.want == "sent", err == nil, err)
			require.Equal(t, c.want == "refused", messaging.IsPermanent(err), err)
			require.Equal(t, c.want == "away", messaging.IsUnavailable(err), err)
			select {
			case <-s.ended:
			case <-time.After(10 * time.Second):
				require.Fail(t, "the connection was not closed")
			}
		})
	}
}

// A refused login is not the fault of the mail, so the mail waits. A password is never sent in
// plain text. app/app_test.go tests a successful login.
func TestALoginThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, at, no string }{
		{"no login at all", "EHLO", "250 mail"},
		{"a password that everybody could read", "EHLO", "250-mail\r\n250 AUTH PLAIN LOGIN"},
		{"a wrong password", "AUTH", "535 no"},
		{"no login now", "AUTH", "454 later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newMailServer(t, c.at, c.no)
			s.user, s.password = "shop", "s3cret"
			err := s.send(t.Context(), t)
			require.True(t, messaging.IsUnavailable(err), err)
			require.NotContains(t, err.Error(), "s3cret")
			select {
			case <-s.ended:
			case <-time.After(10 * time.Second):
				require.Fail(t, "the connection was not closed")
			}
		})
	}
}

// app/app_test.go tests sending to a complete mail server.
func TestEmailThatIsNotSent(t *testing.T) {
	t.Parallel()
	email, err := notify.NewEmail(notify.SMTP{Addr: "127.0.0.1:1", From: "shop@example.com"}) // nobody listens
	require.NoError(t, err)
	for _, nobody := range []string{"not an address", "eve@example.com\r\nBcc: all@example.com", "a..b@example.com", ""} {
		err := email.Send(t.Context(), nobody, "s", "b", "k")
		require.ErrorContains(t, err, "not a mail address")
		require.True(t, messaging.IsPermanent(err))
	}
	err = email.Send(t.Context(), "ada@example.com", "s", "b", "k")
	require.ErrorContains(t, err, "send a mail")
	require.True(t, messaging.IsUnavailable(err))
}

// A server that accepts the connection and does not answer delays neither a stop nor a
// deadline.
func TestEmailEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, "MAIL", "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	started := time.Now()
	require.True(t, messaging.IsUnavailable(s.send(ctx, t)))
	require.Less(t, time.Since(started), 5*time.Second)
}
