package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// listed answers from a listing of a folder, and reads the folder's files.
type listed struct {
	*listing
	dir *Dir
}

func (l listed) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	return l.dir.Read(ctx, paths, fn)
}

func (l listed) Live(context.Context) (snapshot.Live, error) { return snapshot.Live{}, nil }

func list(t testing.TB, d *Dir) *listing {
	t.Helper()
	l, err := newListing(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	err = d.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		if f.Xattrs != nil {
			l.xattrs[f.Path] = f.Xattrs
		}
		return errors.Join(err, l.add(f))
	})
	if err := errors.Join(err, l.done()); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListingConforms(t *testing.T) {
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		d := open(t, root)
		return listed{list(t, d), d}
	})
}

func TestListingSkips(t *testing.T) {
	l, err := newListing(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	add := func(p string, kind snapshot.Type) {
		t.Helper()
		if err := l.add(snapshot.File{Path: p, Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	add(".", snapshot.Dir)
	for _, d := range []string{"a", "b", "c"} {
		add(d, snapshot.Dir)
		for i := range 5000 {
			add(d+"/"+string(rune('a'+i/676))+string(rune('a'+i/26%26))+string(rune('a'+i%26)), snapshot.Regular)
		}
	}
	add("d", snapshot.Regular)
	if err := l.done(); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = l.Files(t.Context(), ".", func(f snapshot.File, _ error) error {
		got = append(got, f.Path)
		if f.Type == snapshot.Dir && f.Path != "." {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil || len(got) != 5 || got[4] != "d" {
		t.Errorf("%q, %v", got, err)
	}
	if f, ok, err := l.lookup(t.Context(), "d"); !ok || err != nil || f.Path != "d" {
		t.Errorf("d is %v, %v, %v", f, ok, err)
	}
}

func TestListingIsOrdered(t *testing.T) {
	dir := func(p string) snapshot.File { return snapshot.File{Path: p, Type: snapshot.Dir} }
	file := func(p string) snapshot.File { return snapshot.File{Path: p, Type: snapshot.Regular} }
	for _, bad := range [][]snapshot.File{
		{file(".")},
		{dir("a")},
		{dir("."), dir(".")},
		{dir("."), file("a/b")},
		{dir("."), file("a"), file("a/b")},
		{dir("."), file("a"), file("a")},
		{dir("."), dir("a"), dir("b"), file("a/x")},
		{dir("."), dir("a"), dir("b"), dir("a")},
		{dir("."), file("../x")},
		{dir("."), file("/x")},
		{dir("."), file("")},
	} {
		l, err := newListing(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range bad {
			err = l.add(f)
		}
		if err == nil {
			t.Errorf("%v is taken", bad)
		}
		l.Close()
	}
}
