package scrub

import (
	"bytes"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// What administrators write every day comes along.
func TestOrdinaryFiles(t *testing.T) {
	a, err := txtar.ParseFile("testdata/ordinary.txtar")
	if err != nil {
		t.Fatal(err)
	}
	r := rules(t, nil, nil)
	for _, file := range a.Files {
		if class, reason := r.Path(file.Name, f); class != "" {
			t.Errorf("%s is left: %s", file.Name, reason)
		}
		reason, err := r.Content(file.Name, bytes.NewReader(file.Data))
		if err != nil {
			t.Fatal(err)
		}
		if reason != "" {
			t.Errorf("%s is taken for %s", file.Name, reason)
		}
	}
	t.Logf("%d files", len(a.Files))
}
