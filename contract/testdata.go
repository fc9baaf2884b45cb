package contract

import (
	"embed"
	"fmt"
)

// Fixtures holds one body for each message type, "testdata/<type>.json". The
// tests of both sides decode them: this package's into the published struct, a
// consumer's into its own.
//
//go:embed testdata/*.json
var Fixtures embed.FS

// Fixture gives the example body of a message type, by the type's name
// ("charge.v1").
func Fixture(name string) ([]byte, error) {
	body, err := Fixtures.ReadFile("testdata/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("fixture of %s: %w", name, err)
	}
	return body, nil
}
