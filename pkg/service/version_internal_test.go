package service

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionOf(t *testing.T) {
	t.Parallel()
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "38a74c5"}
	for want, info := range map[string]*debug.BuildInfo{
		"38a74c5":          {Settings: []debug.BuildSetting{commit, {Key: "vcs.modified", Value: "false"}}},
		"38a74c5+modified": {Settings: []debug.BuildSetting{commit, {Key: "vcs.modified", Value: "true"}}},
		"v1.2.3":           {Main: debug.Module{Version: "v1.2.3"}},
		"unknown":          {Main: debug.Module{Version: "(devel)"}},
	} {
		require.Equal(t, want, versionOf(info))
	}
	require.NotEmpty(t, Version())
}
