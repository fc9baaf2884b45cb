// Package mailbox receives mails by SMTP.
package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/zap"

	"example.com/orderflow/pkg/service"
	"example.com/orderflow/tools/sandbox/internal/fault"
	"example.com/orderflow/tools/sandbox/internal/postgres"
)

// Server is an SMTP server that stores the mails it receives.
type Server struct {
	listener net.Listener
	smtp     *smtp.Server
}

// Login is the login that clients must use. With an empty user, no login is required.
type Login struct {
	User     string
	Password service.Secret
}

// NewServer opens the port. The server has the faults of [fault.Mail].
func NewServer(addr string, login Login, store *postgres.Store, faults *fault.Switches, log *zap.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("SMTP_LISTEN_ADDR: %w", err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(conn *smtp.Conn) (smtp.Session, error) {
		return &session{conn: conn.Conn(), login: login, store: store, faults: faults, log: log}, nil
	}))
	server.AllowInsecureAuth = true // without TLS; CRAM-MD5 does not send the password
	server.Domain = "sandbox"
	server.ReadTimeout = 30 * time.Second
	server.WriteTimeout = 30 * time.Second
	server.MaxMessageBytes = 1 << 20
	server.MaxRecipients = 10
	return &Server{listener: &faultyListener{listener, faults}, smtp: server}, nil
}

// faultyListener closes each new connection at once while mail is down.
type faultyListener struct {
	net.Listener
	faults *fault.Switches
}

func (l *faultyListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.faults.Of(fault.Mail).Down {
			return conn, err
		}
		_ = conn.Close()
	}
}

// Addr is the address of the port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve receives mails until Shutdown, and then returns nil.
func (s *Server) Serve() error {
	err := s.smtp.Serve(s.listener)
	if err == nil || errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve SMTP: %w", err)
}

// Shutdown waits for running deliveries, until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.smtp.Shutdown(ctx)
	_ = s.listener.Close() // if the server was never served
	if err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return errors.Join(fmt.Errorf("stop SMTP: %w", err), s.smtp.Close())
	}
	return nil
}

// session is one connection, with one mail after the other.
type session struct {
	conn   net.Conn
	login  Login
	known  bool // has logged in
	store  *postgres.Store
	faults *fault.Switches
	log    *zap.Logger
	from   string
	to     []string
}

// Mail begins a mail, after the delay of the faults. While mail is down, it closes the
// connection, which was opened before the fault.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	state := s.faults.Of(fault.Mail)
	if state.Down {
		return errors.Join(errDown, s.conn.Close())
	}
	<-time.After(state.Slow) // go-smtp has no context; maxSlow limits the delay
	if s.login.User != "" && !s.known {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "log in first"}
	}
	s.from = from
	return nil
}

var errDown = errors.New("down on purpose")

// Rcpt accepts a recipient, or refuses it because of a fault.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if code := s.faults.Of(fault.Mail).Refuse; code != 0 {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 0, 0}, Message: "refused on purpose"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Data(r io.Reader) error {
	message, err := mail.ReadMessage(r)
	if err != nil {
		return fmt.Errorf("read a mail: %w", err)
	}
	body := message.Body
	if strings.EqualFold(message.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("read a mail: %w", err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject"))
	if err != nil {
		subject = message.Header.Get("Subject")
	}
	for _, to := range s.to {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := s.store.AddMail(ctx, postgres.Mail{
			From: s.from, To: to, Subject: subject, Text: string(text), DedupeKey: message.Header.Get("X-Dedupe-Key"),
		})
		cancel()
		if err != nil {
			s.log.Error("mail not stored", zap.Error(err))
			return &smtp.SMTPError{Code: 451, Message: "try again later"}
		}
	}
	s.log.Info("mail taken", zap.Int("recipients", len(s.to)), zap.String("dedupe_key", message.Header.Get("X-Dedupe-Key")))
	return nil
}
