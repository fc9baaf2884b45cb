package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"example.com/orderflow/pkg/messaging"
	"example.com/orderflow/pkg/service"
)

// smtpTimeout limits each part of a delivery: the connection with its login, and the mail.
const smtpTimeout = 10 * time.Second

// Email sends mails over SMTP. Safe for concurrent use.
type Email struct {
	host    string
	options []mail.Option
	from    string
}

// SMTP has the settings of the mail server.
type SMTP struct {
	// Addr is host:port of the mail server.
	Addr string
	// StartTLS requires TLS. Only the sandbox works without it.
	StartTLS bool
	// User and Password are the login; both are empty without one. Without StartTLS the
	// password is never sent in plain text: the server must offer SCRAM or CRAM-MD5.
	User     string
	Password service.Secret
	// From is the sender's address.
	From string
}

// NewEmail makes a sender of mails. The error names the wrong setting.
func NewEmail(c SMTP) (*Email, error) {
	host, port, err := splitAddr(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("SMTP_ADDR: %w", err)
	}
	if err := mail.NewMsg().From(c.From); err != nil {
		return nil, fmt.Errorf("MAIL_FROM: %w", err)
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTLSPolicy(mail.NoTLS), mail.WithTimeout(smtpTimeout)}
	if c.StartTLS {
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	switch {
	case (c.User == "") != (c.Password == ""):
		return nil, errors.New("SMTP_USER and SMTP_PASSWORD_FILE: give both, or neither")
	case c.User != "":
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(c.User), mail.WithPassword(string(c.Password)))
	}
	e := &Email{host, options, c.From}
	if _, err := mail.NewClient(e.host, e.options...); err != nil {
		return nil, fmt.Errorf("make the mail client: %w", err)
	}
	return e, nil
}

// splitAddr splits host:port, where the port is a number.
func splitAddr(addr string) (host string, port int, err error) {
	u, err := url.Parse("//" + addr)
	if err != nil || u.Host != addr || u.Hostname() == "" {
		return "", 0, errors.New("must be host:port")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("must have a port from 1 to 65535")
	}
	return u.Hostname(), int(n), nil
}

// Send sends one mail. The mail has the dedupe key, so that copies can be recognised. Errors
// are marked with their verdict: [messaging.Permanent] for a mail that can never be sent, see
// refusesTheMail, and [messaging.Unavailable] for all others, such as no connection, 4xx, or a
// server that accepts no mail from us.
func (e *Email) Send(ctx context.Context, to, subject, body, dedupeKey string) error {
	m := mail.NewMsg()
	if err := m.From(e.from); err != nil {
		return fmt.Errorf("MAIL_FROM: %w", err)
	}
	if err := m.To(to); err != nil {
		return messaging.Permanent(fmt.Errorf("not a mail address: %w", err))
	}
	m.Subject(subject)
	m.SetGenHeader("X-Dedupe-Key", dedupeKey)
	m.SetBodyString(mail.TypeTextPlain, body)
	err := e.deliver(ctx, m)
	switch {
	case err == nil, m.IsDelivered(): // the server has the mail, also if QUIT failed
		return nil
	case refusesTheMail(err):
		return messaging.Permanent(fmt.Errorf("send a mail: %w", err))
	default:
		return messaging.Unavailable(fmt.Errorf("send a mail: %w", err))
	}
}

// deliver opens a connection for this mail. The mail library does not close it if the server
// refuses us before the mail, and ignores ctx after it is open. So it is closed here, at the
// end or when ctx is done.
func (e *Email) deliver(ctx context.Context, m *mail.Msg) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := func(dialCtx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(dialCtx, network, addr)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	client, err := mail.NewClient(e.host, append(e.options[:len(e.options):len(e.options)], mail.WithDialContextFunc(dial))...)
	if err != nil {
		return fmt.Errorf("make the mail client: %w", err)
	}
	return client.DialAndSendWithContext(ctx, m)
}

// refusesTheMail says whether the server will never accept this mail: 5xx to its recipient or
// to its content. 5xx before that (to the greeting, the login or the sender) is about every
// mail, and so is the demand for a login at any time.
func refusesTheMail(err error) bool {
	var refused *mail.SendError
	if !errors.As(err, &refused) || refused.ErrorCode() < 500 || refused.ErrorCode() > 599 {
		return false
	}
	switch refused.ErrorCode() {
	case 530, 534, 535, 538: // login required, stronger login required, wrong login, TLS required
		return false
	}
	switch refused.Reason {
	case mail.ErrSMTPRcptTo, mail.ErrSMTPData, mail.ErrSMTPDataClose, mail.ErrWriteContent:
		return true
	default:
		return false
	}
}
