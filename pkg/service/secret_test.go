package service_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"example.com/orderflow/pkg/service"
)

type withSecret struct {
	Key service.Secret `env:"PROVIDER_KEY_FILE"`
}

// Not parallel: it sets the environment.
func TestSecretIsReadFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	t.Setenv("PROVIDER_KEY_FILE", "")
	config, err := service.Load[withSecret]()
	require.NoError(t, err)
	require.Empty(t, string(config.Key), "not given")

	t.Setenv("PROVIDER_KEY_FILE", path)
	for name, content := range map[string]string{
		"empty": "", "white space": " \n\t\n", "two lines": "s3cret\nagain\n", "NUL": "s3cret\x00", "no UTF-8": "s3cret\xff",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := service.Load[withSecret]()
		require.ErrorContains(t, err, "PROVIDER_KEY_FILE: the file "+path, name)
		require.NotContains(t, err.Error(), "s3cret", name)
		require.NotContains(t, err.Error(), "\n", "one line")
	}
	require.NoError(t, os.WriteFile(path, []byte(" s3cret with spaces\n"), 0o600))
	config, err = service.Load[withSecret]()
	require.NoError(t, err)
	require.Equal(t, "s3cret with spaces", string(config.Key))

	t.Setenv("PROVIDER_KEY_FILE", path+".away")
	_, err = service.Load[withSecret]()
	require.ErrorContains(t, err, "PROVIDER_KEY_FILE: open "+path+".away")
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	config := withSecret{"s3cret"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(format, config), "s3cret", format)
	}
	encoded, err := json.Marshal(config)
	require.NoError(t, err)
	require.JSONEq(t, `{"Key":"***"}`, string(encoded))
	line, err := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()).EncodeEntry(zapcore.Entry{}, []zapcore.Field{
		zap.Any("config", config), zap.Any("key", config.Key), zap.Stringer("stringer", config.Key),
	})
	require.NoError(t, err)
	require.NotContains(t, line.String(), "s3cret")
}

func TestSecretAuthorizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret service.Secret
		header string
		want   bool
	}{
		{"s3cret", "Bearer s3cret", true},
		{"s3cret", "bearer s3cret", true},
		{"s3cret", "Bearer s3cre", false},
		{"s3cret", "Bearer s3cret ", false},
		{"s3cret", "Basic s3cret", false},
		{"s3cret", "s3cret", false},
		{"s3cret", "", false},
		{"", "Bearer ", false},
		{"", "", false},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Authorization", c.header)
		require.Equal(t, c.want, c.secret.Authorizes(r), c.header)
	}
}
