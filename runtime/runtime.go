// Package runtime is the contract between stead and the engines that run
// commands in an env: what a session is (Spec), what an engine does (Engine), and
// the one OCI runtime specification that all engines start from. It mounts and
// starts nothing itself, and knows neither locks nor stores.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Spec is one session: a command, and all that is around it. It is plain data;
// paths on this machine are absolute and clean.
type Spec struct {
	Name string // the env, for people: "acme@3"

	// Root is the root filesystem, which is never written. Identity is a digest that
	// names its content, by which an engine with a store of its own finds it there.
	// Lower are layers above it, the topmost first, as overlay counts them.
	Root     string
	Identity string
	Lower    []string
	// Upper is a folder in which what the session changes is kept, or "" to discard
	// it. It holds what it needs in subfolders of its own.
	Upper string
	// Scratch is the folder in which the session makes one of its own; it is on a
	// file system that overlay can write to, where there is one.
	Scratch string

	Command []string
	Dir     string // inside; "" is "/"
	Env     []string
	UID     uint32 // inside
	GID     uint32
	Groups  []uint32
	Umask   uint32 // taken as it is: 0 means that files are made for everybody
	// NoFile is the soft limit of open files; 0 stands for 1024. No limit is ever
	// raised above what this process may have.
	NoFile uint64
	// KeepOwners says that giving files to others succeeds and does nothing: where only one
	// user can be had, installing a package would fail otherwise.
	KeepOwners bool
	// Terminal gives the session a terminal of its own, driven by the one that Stdio
	// is connected to.
	Terminal bool

	Hostname string
	Network  Network
	Mounts   []Mount
	Files    []File
	// Kernel is what the session is shown instead of this machine's own; nil for that.
	Kernel *Kernel
	// Devices are paths of device nodes of this machine, which the session has at the
	// same place.
	Devices []string
}

// Network is what a session sees of the network.
type Network string

// The networks. The zero value is NetworkNone.
const (
	NetworkHost Network = "host" // this machine's own
	NetworkNone Network = "none" // a loopback device and nothing else
)

// Mount shows a file or folder of this machine at a place inside.
type Mount struct {
	Source string
	// Target is the place inside. Links on the way to it are followed as a process
	// inside would follow them; what is missing is made.
	Target   string
	ReadOnly bool
}

// File is a small file shown read-only at a place inside.
type File struct {
	Path    string // as a Mount's Target
	Content []byte
}

// Stdio are the command's standard streams. An *os.File is given to the command
// as it is; anything else is copied through a pipe. Nil is /dev/null.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Result is how a session ended.
type Result struct {
	// ExitCode is the command's own, or 128 and the number of the signal that ended
	// it.
	ExitCode int
	// Changed counts the files that the session made, changed or removed outside its
	// mounts.
	Changed int
	// Notes are sentences for people: what was done in another way than usual.
	Notes []string
}

// Engine runs sessions.
type Engine interface {
	Name() string
	// Check reports why the engine can't run sessions here, or nil. The error has a
	// hint where there is a remedy.
	Check(ctx context.Context) error
	// Run runs the command to its end. A command that could not be started is an
	// *Error. When ctx ends, so does everything in the session.
	Run(ctx context.Context, spec Spec, stdio Stdio) (Result, error)
	// Sweep clears what killed sessions left in scratch. Living ones keep theirs.
	Sweep(ctx context.Context, scratch string) error
}

// The exit codes for commands that did not run, as container engines use them.
const (
	CodeEngine        = 125 // the engine failed
	CodeNotExecutable = 126 // the command can't be executed
	CodeNotFound      = 127 // there is no such command
)

// Error says why a session did not run.
type Error struct {
	Op     string // action and object: "mounting /var/lib/stead/roots/…"
	Code   int    // one of the exit codes above
	Err    error
	Remedy string // what to do about it; "" where nothing is known
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns what can be done about it, or "".
func (e *Error) Hint() string { return e.Remedy }

// ExitCode is the exit code for an error of Run.
func ExitCode(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeEngine
}
