package envs

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestMatrixTools(t *testing.T) {
	t.Setenv("STEAD_STORE", "/srv/store")
	p, f := toolsProject(t, "targets = [\"acme\"]\ntools = [\"gcc\", \"make\", \"file:/bin/sh\"]")
	refs := []Ref{{Target: "acme"}}
	chosen, err := p.Matrix(f, refs, true)
	if err != nil || len(chosen) != 1 {
		t.Fatal(chosen, err)
	}
	if got, want := chosen[0].Tools, testTools().Digest; got != want || chosen[0].Key != cacheKey(chosen[0].Lock, want) {
		t.Errorf("got the tools %s and the key %s, want %s", got, chosen[0].Key, want)
	}
	if got := chosen[0].Paths; len(got) != 1 || got[0] != "/srv/store/blobs" {
		t.Errorf("kept are %v", got)
	}
	// Tools that nobody chose yet have no digest.
	p.Config.Tools = append(p.Config.Tools, "cmake")
	if _, err := p.Matrix(f, refs, true); err == nil {
		t.Error("stead.lock has other tools, and matches")
	}
	if other, err := p.Matrix(f, refs, false); err != nil || other[0].Tools != "" || other[0].Key == chosen[0].Key {
		t.Errorf("with another wish: %+v, %v", other, err)
	}
}

// A key is another one where anything that is cached would be.
func TestCacheKey(t *testing.T) {
	seen := map[string]bool{}
	for _, identity := range []string{"a", "b"} {
		for _, tools := range []string{"", "tree1:sha256:1", "tree1:sha256:2"} {
			key := cacheKey(digest.FromString(identity), tools)
			if seen[key] || key != cacheKey(digest.FromString(identity), tools) {
				t.Errorf("the key %s", key)
			}
			seen[key] = true
		}
	}
}
