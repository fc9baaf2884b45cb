package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
)

// ErrBadAddress says that a recipient is no mail address.
var ErrBadAddress = errors.New("not a mail address")

// Email sends mails over SMTP.
type Email struct {
	client *mail.Client
	from   string
}

// NewEmail makes a sender. starttls is off for the sandbox, and on elsewhere.
func NewEmail(addr, from string, starttls bool) (*Email, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("SMTP_ADDR: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("SMTP_ADDR: %w", err)
	}
	policy := mail.NoTLS
	if starttls {
		policy = mail.TLSMandatory
	}
	if err := mail.NewMsg().From(from); err != nil {
		return nil, fmt.Errorf("MAIL_FROM: %w", err)
	}
	client, err := mail.NewClient(host, mail.WithPort(port), mail.WithTLSPolicy(policy), mail.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("make the mail client: %w", err)
	}
	return &Email{client: client, from: from}, nil
}

// Send sends one mail. The dedupe key goes along, so that a reader can tell a
// second copy. [ErrBadAddress] and [ErrRefused] (a 5xx of the mail server) are for
// a mail that will never go out; all else is worth another try.
func (e *Email) Send(ctx context.Context, to, subject, body, dedupeKey string) error {
	m := mail.NewMsg()
	if err := m.From(e.from); err != nil {
		return fmt.Errorf("MAIL_FROM: %w", err)
	}
	if err := m.To(to); err != nil {
		return fmt.Errorf("%w: %w", ErrBadAddress, err)
	}
	m.Subject(subject)
	m.SetGenHeader("X-Dedupe-Key", dedupeKey)
	m.SetBodyString(mail.TypeTextPlain, body)
	err := e.client.DialAndSendWithContext(ctx, m)
	var sendErr *mail.SendError
	switch {
	case err == nil, m.IsDelivered(): // the server has it, whatever the goodbye was like
		return nil
	case errors.As(err, &sendErr) && sendErr.ErrorCode() >= 500 && sendErr.ErrorCode() < 600:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	default:
		return fmt.Errorf("send a mail: %w", err)
	}
}
