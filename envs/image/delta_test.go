package image

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

func TestDeltaAttributes(t *testing.T) {
	f := regular("opt/a", "content")
	f.Xattrs = map[string]string{"user.a=b": "1", "user.100%": "\x00\n=", "user.%3D": "3", "user.empty": ""}
	d := Delta{Entries: store.Manifest{f}}
	var b bytes.Buffer
	open := func(snapshot.File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil }
	if err := d.Write(t.Context(), &b, open); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&b).Next()
	if err != nil {
		t.Fatal(err)
	}
	if got := xattrs(h); !maps.Equal(got, f.Xattrs) {
		t.Errorf("attributes come back as %q", got)
	}
}

// keepAll are rules that leave nothing.
type keepAll struct{ snapshot.Rules }

func (keepAll) Path(string, snapshot.Type) (snapshot.Class, string) { return "", "" }

// A layer would take such files for what is gone, and their neighbors away.
func TestDiffLeavesWhiteouts(t *testing.T) {
	inv := &snapshot.Inventory{}
	for _, f := range []snapshot.File{folder(".", 0o755), folder("opt", 0o755), folder("opt/.wh.d", 0o755),
		regular("opt/.wh.d/x", "x"), regular("opt/.wh.x", "x"), regular("opt/x", "x"), regular("opt/x.wh.y", "x")} {
		inv.Entries = append(inv.Entries, snapshot.Entry{File: f, Class: snapshot.Made})
	}
	plan := Diff(&Base{}, inv, keepAll{}, nil)
	var got []string
	for _, f := range plan.Entries {
		got = append(got, f.Path)
	}
	if want := ". opt opt/x opt/x.wh.y"; strings.Join(got, " ") != want {
		t.Errorf("stored: %q, want %q", got, want)
	}
	left := 0
	for _, d := range plan.Decisions {
		if d.Action == Left {
			left++
		}
	}
	if left != 3 {
		t.Errorf("%d paths are said to be left, want 3", left)
	}
}
