package contract

import (
	"embed"
	"fmt"
)

// Fixtures has an example body for each message type, "testdata/<type>.json". The tests of
// this package decode it into the published struct, those of a consumer into its own struct.
//
//go:embed testdata/*.json
var Fixtures embed.FS

// Fixture returns the example body of a message type by its name, such as "charge.v1".
func Fixture(name string) ([]byte, error) {
	body, err := Fixtures.ReadFile("testdata/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("fixture of %s: %w", name, err)
	}
	return body, nil
}
