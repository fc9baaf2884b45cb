package mailbox

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // CRAM-MD5 needs it; as an HMAC, MD5 is not broken
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// cramMD5 is the only supported login mechanism (RFC 2195). It needs no TLS, since it never
// sends the password.
const cramMD5 = "CRAM-MD5"

// AuthMechanisms lists the login mechanisms.
func (s *session) AuthMechanisms() []string {
	if s.login.User == "" {
		return nil
	}
	return []string{cramMD5}
}

// Auth begins a login.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != cramMD5 || s.login.User == "" {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return &challenge{session: s}, nil
}

// challenge is one login: the challenge that was sent, and the check of the response.
type challenge struct {
	session *session
	asked   []byte
}

func (c *challenge) Next(response []byte) (ask []byte, done bool, err error) {
	if c.asked == nil {
		c.asked = []byte("<" + rand.Text() + "@sandbox>")
		return c.asked, false, nil
	}
	mac := hmac.New(md5.New, []byte(c.session.login.Password))
	mac.Write(c.asked)
	user, digest, _ := strings.Cut(string(response), " ")
	if user != c.session.login.User || !hmac.Equal([]byte(digest), []byte(hex.EncodeToString(mac.Sum(nil)))) {
		return nil, false, smtp.ErrAuthFailed
	}
	c.session.known = true
	return nil, true, nil
}
