package system

import (
	"context"
	"io"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Source is what an index is made of: the root of a release, or a host, wherever the
// contents of its files lie.
type Source struct {
	// Files are the root's entries, sorted by path. Regular files have their digest and
	// size. What Wants doesn't want may be missing.
	Files    store.Manifest
	Packages []Package // installed ones
	// Owner is the name of the package that brought a path of Files, "" for none.
	Owner func(path string) string
	// Open opens a regular file of Files. Several may be open at once.
	Open func(ctx context.Context, f snapshot.File) (Content, error)
}

// Content is a file's, of the size that Source.Files has.
type Content interface {
	io.ReaderAt
	io.Closer
}
