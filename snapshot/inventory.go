package snapshot

import "io"

// Class says why a path is kept or stays behind. Every path of a host falls in
// the first class that matches, in this order.
type Class string

// The classes of paths that don't need the package files to be told.
const (
	Secret Class = "secret" // identity and credentials: never read where the path tells it
	Noise  Class = "noise"  // caches, logs, byte code
	Owned  Class = "owned"  // some package's database entry names it
	Made   Class = "made"   // in no package, where software and its configuration live
	State  Class = "state"  // everything else
)

// TooBroad stands in the reason for a secret that stays although a pattern to keep
// matches it, which doesn't go as far into the path as a secret asks for. What follows
// is the pattern.
const TooBroad = "; not named by the pattern to keep "

// Rules decide what never leaves a host. snapshot/scrub has the real ones.
type Rules interface {
	// Path classes a path by its name alone: Secret or Noise, or "" where ownership
	// has to tell.
	Path(path string, t Type) (class Class, reason string)
	// Place classes a path that no package owns as Made or State. parentOwned says
	// that the folder around it is a package's; keepFolder says that a folder of
	// State comes along empty, because a package or a script made it.
	Place(path string, t Type, parentOwned bool) (class Class, reason string, keepFolder bool)
	// Content returns a reason to leave a file behind for what is in it, else "". It
	// may stop reading early.
	Content(path string, content io.Reader) (reason string, err error)
	// Stands returns what takes the place of a file that may not leave as it is (a
	// shadow with locked passwords, a passwd without people), with the reason; ok is
	// false where nothing does. keeps reports whether a kept file belongs to an id.
	Stands(path string, content []byte, keeps Owners) (replacement []byte, reason string, ok bool)
	// Version changes whenever a rule does: verdicts on contents are cached under it.
	Version() string
}

// Owners are the numeric ids that kept files belong to.
type Owners struct {
	Users, Groups map[uint32]bool
}

// Entry is a path of a host with its class.
type Entry struct {
	File
	Class  Class
	Reason string // for people, where it isn't plain from the class
}

// Left sums up what stayed behind below one folder for one reason.
type Left struct {
	Path   string `json:"path"`
	Class  Class  `json:"class"`
	Reason string `json:"reason"`
	Files  int64  `json:"files"`
	Bytes  int64  `json:"bytes"`

	named bool // Path is the very path, not the folder around it
}

// Facts are what a host says of itself. What isn't known is "" or 0.
type Facts struct {
	ID           string // os-release
	Version      string
	Codename     string
	Architecture string
	Libc         string
	Kernel       string
	// KernelVersion and SystemCalls are Live's.
	KernelVersion string
	SystemCalls   []string
	CPU           string
	Umask         string
	Locale        string
	Timezone      string
	NoFile        int // soft limit of open files
}

// Inventory is what a snapshot knows of a host before any package file is
// looked at.
type Inventory struct {
	Facts    Facts
	Database *Database
	// Entries are the paths that can matter for a root file system, sorted by path
	// bytes: everything owned or made, secrets and noise of which a package brings a
	// version, and the folders of state that a package or a script made.
	//
	// What stands in for something is among them too, with its class Secret: shadow,
	// machine-id.
	Entries []Entry
	// Links are the targets of the host's symbolic links that a path of a package may
	// lead through, whatever their class.
	Links map[string]string
	// Left sums up the rest.
	Left []Left
	// Unreadable are paths that could not be read, with the reason.
	Unreadable []Left

	hidden map[string]bool // files, as hard links name them, that may not leave
	names  map[string]bool // elements of the paths that packages own
	people people
}
