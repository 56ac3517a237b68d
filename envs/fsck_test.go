package envs

import (
	"context"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// shutHost lets no file be read, as a user's disk does where the mode is 0.
type shutHost struct{ snapshot.Host }

func (shutHost) Read(_ context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	for _, p := range paths {
		if err := fn(p, nil, &fs.PathError{Op: "open", Path: p, Err: os.ErrPermission}); err != nil {
			return err
		}
	}
	return nil
}

func TestFsckOfUnreadableFiles(t *testing.T) {
	file := func(path string, mode uint32) snapshot.File {
		return snapshot.File{Path: path, Type: snapshot.Regular, Mode: mode, Change: stampOf(path)}
	}
	for _, test := range []struct {
		user        bool
		differences int
		shut        int
	}{{true, 1, 1}, {false, 2, 0}} {
		c := &checker{cfg: Config{}, sums: map[snapshot.Stamp]string{}}
		c.cfg.Progress = func(snapshot.Event) {}
		c.res.OwnersHeld = !test.user
		disk := store.Manifest{file("closed", 0), file("open", 0o644)}
		if err := c.hash(t.Context(), "tree", shutHost{}, disk); err != nil {
			t.Fatal(err)
		}
		if c.res.Differences != test.differences || c.res.Shut != test.shut {
			t.Errorf("user %v: %d differences and %d shut, want %d and %d", test.user, c.res.Differences, c.res.Shut, test.differences, test.shut)
		}
		if want := file("closed", 0); test.user {
			want.Digest = "content"
			if what := c.compare(want, disk[0]); what != "" {
				t.Errorf("a file that can't be read: %s", what)
			}
			if want.Mode = 0o644; c.compare(want, disk[0]) == "" {
				t.Error("its mode isn't compared")
			}
		}
	}
}

func stampOf(path string) (s snapshot.Stamp) {
	copy(s[:], path)
	return s
}
