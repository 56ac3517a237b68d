package snapshot

import (
	"context"
	"io"
)

// Host is a production machine. It is read and never written; every byte that
// comes from it is hostile.
//
// The methods answer one question for many paths at a time, so that a host at
// the other end of a wire costs a round trip for each kind of question and not
// one for each file.
type Host interface {
	// Files calls fn for every path at and below dir ("." for the whole host), dir
	// itself first when it is a folder; a dir that isn't there is no error. Folders
	// for which fn answers SkipDir are not entered. Symbolic links are reported and
	// never followed. A path that could not be read comes with err set and as much
	// of File as is known.
	Files(ctx context.Context, dir string, fn func(f File, err error) error) error

	// Read calls fn with the content of each regular file in paths, in any order;
	// err says why one could not be read. Paths are opened as they are: a path that
	// became a link since it was listed is an error.
	Read(ctx context.Context, paths []string, fn func(path string, content io.Reader, err error) error) error

	// Live tells what only a running system can tell; it is zero for a folder.
	Live(ctx context.Context) (Live, error)
}

// Stamped is a content that Read gives of a host that can tell whether it is still
// the one of the listing: Stamp is the file's as it is now, once the content was read.
type Stamped interface {
	Stamp() (Stamp, error)
}

// Live are the facts that no file of a root holds.
type Live struct {
	Kernel        string   // uname -r
	KernelVersion string   // /proc/version
	SystemCalls   []string // of the kernel, sorted, by libseccomp's names
	CPU           string   // the micro-architecture level, such as x86-64-v3
}
