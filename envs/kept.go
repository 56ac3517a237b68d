package envs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
)

// Kept is a named session: what it changed is kept in the store, and it goes on when
// it is entered again, on the release that it was begun on. Nobody else enters,
// removes or reads it meanwhile.
type Kept struct {
	Name   string
	New    bool // it was never entered
	record keptRecord
	st     *store.Store
	dir    string
	held   *os.File
}

// The files of a named session, in a folder of its own. The engine keeps what it needs
// in keptChanges: see runtime.Spec.Upper.
const (
	keptDir     = "kept"         // in the store
	keptFile    = "session.toml" // keptRecord
	keptLock    = "release.lock" // a copy: the fleet at hand may not have the release
	keptAdded   = "tools.lock"   // as stead.lock has them; only where the session has tools
	keptChanges = "changes"
	keptUpper   = "upper" // in that: what an overlay keeps, with every engine
)

// keptRecord is session.toml.
type keptRecord struct {
	Target   string        `toml:"target"`
	Release  int           `toml:"release"`
	Identity digest.Digest `toml:"identity"`
	Engine   string        `toml:"engine"`
	Ids      string        `toml:"ids,omitempty"` // the id mapping that its files have owners by
	Created  time.Time     `toml:"created"`
	Used     time.Time     `toml:"used"` // when it was last entered
}

// KeptError says why a named session can't be used as asked.
type KeptError struct {
	Name   string
	Text   string
	Remedy string
}

func (e *KeptError) Error() string { return fmt.Sprintf("session %q %s", e.Name, e.Text) }

// Hint says how to go on.
func (e *KeptError) Hint() string { return e.Remedy }

// CheckSessionName reports whether name can be that of a session: a folder of the
// store. The error is a *NameError.
func CheckSessionName(name string) error { return checkName("session", name) }

// HoldKept takes the session of that name, making a new one where there is none. It is
// Closed in the end.
func HoldKept(st *store.Store, name string) (*Kept, error) {
	if err := CheckSessionName(name); err != nil {
		return nil, err
	}
	k := &Kept{Name: name, st: st, dir: keptPath(st, name)}
	if err := os.MkdirAll(filepath.Dir(k.dir), 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for sessions: %w", err)
	}
	var err error
	for k.held == nil && err == nil {
		if err = os.Mkdir(k.dir, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			k.held, err = flockFolder(k.dir, unix.LOCK_EX)
		}
	}
	if err != nil {
		return nil, k.busy("entering", err)
	}
	if err := k.load(); errors.Is(err, fs.ErrNotExist) {
		k.New = true
	} else if err != nil {
		return nil, errors.Join(err, k.held.Close())
	}
	return k, nil
}

// ReadKept takes a session for reading it: several may at once, while nobody is in it.
func ReadKept(st *store.Store, name string) (*Kept, error) {
	return takeKept(st, name, unix.LOCK_SH, "reading")
}

func takeKept(st *store.Store, name string, how int, doing string) (*Kept, error) {
	if err := CheckSessionName(name); err != nil {
		return nil, err
	}
	k := &Kept{Name: name, st: st, dir: keptPath(st, name)}
	held, err := flockFolder(k.dir, how)
	if err != nil {
		return nil, k.busy(doing, err)
	}
	if held == nil {
		return nil, unknownKept(st, name)
	}
	k.held = held
	if err := k.load(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = unknownKept(st, name)
		}
		return nil, errors.Join(err, held.Close())
	}
	return k, nil
}

func keptPath(st *store.Store, name string) string { return filepath.Join(st.Dir(), keptDir, name) }

func unknownKept(st *store.Store, name string) error {
	known, err := KeptNames(st)
	if err != nil {
		return err
	}
	return &UnknownError{Kind: "session", Name: name, Of: "the store", Known: known,
		none: "no session is kept", hint: "stead sessions lists what is kept; stead enter TARGET --session " + name + " begins one"}
}

// busy makes an error of a lock that others have.
func (k *Kept) busy(doing string, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s session %s: %w", doing, k.Name, err)
	}
	if shared, err := flockFolder(k.dir, unix.LOCK_SH); err == nil && shared != nil {
		shared.Close()
		return &KeptError{k.Name, "is being read by another stead", "try again when that has ended"}
	}
	return &KeptError{k.Name, "is running already", "end it first, or take another name"}
}

// flockTries is how often a lock is tried for that somebody has for a moment only, to
// see whether the session is running.
const flockTries = 30

// flockFolder locks a folder without waiting for long. It returns nil where the folder
// isn't there, or was removed meanwhile.
func flockFolder(dir string, how int) (*os.File, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cause(err)
	}
	for try := 0; ; try++ {
		err = unix.Flock(int(d.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR && err != unix.EWOULDBLOCK || try == flockTries {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	ours, err := d.Stat()
	there, gone := os.Lstat(dir)
	if err != nil || gone != nil || !os.SameFile(ours, there) {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// load reads session.toml. The error wraps fs.ErrNotExist where there is none.
func (k *Kept) load() error {
	err := decodeFile(filepath.Join(k.dir, keptFile), &k.record)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return &damagedKept{k.Name, err}
	}
	text, err := k.Release().Text()
	if err == nil && lock.Identity(text) != k.record.Identity {
		err = fmt.Errorf("reading %s: it isn't the lock of %s", k.Release().Path, k.Release())
	}
	if err == nil {
		err = CheckName(k.record.Target)
	}
	if err != nil {
		return &damagedKept{k.Name, err}
	}
	return nil
}

// damagedKept says that what is kept of a session can't be read.
type damagedKept struct {
	name string
	err  error
}

func (e *damagedKept) Error() string { return fmt.Sprintf("opening session %s: %v", e.name, e.err) }

// Hint says how to go on.
func (e *damagedKept) Hint() string { return "stead sessions rm " + e.name + " drops it" }

// Release is the one that the session stands on: a copy, whatever the fleet has.
func (k *Kept) Release() Release {
	return Release{Target: k.record.Target, Number: k.record.Release, Path: filepath.Join(k.dir, keptLock)}
}

// Engine names the engine that the session was begun with; "" where it is new.
func (k *Kept) Engine() string { return k.record.Engine }

// Upper is where the session's changes are kept, as runtime.Spec has it.
func (k *Kept) Upper() string { return filepath.Join(k.dir, keptChanges) }

// Continue reports whether a session that is there already is one of ref, which may
// be zero. It says in a line when ref means another release by now.
func (k *Kept) Continue(f *Fleet, ref Ref) (note string, err error) {
	rel := k.Release()
	if ref.Target != "" && ref.Target != rel.Target || ref.Number > 0 && ref.Number != rel.Number {
		return "", &KeptError{k.Name, fmt.Sprintf("was begun on %s, and %s is asked for", rel, ref),
			"leave the target out to go on with it, or take another name"}
	}
	ref.Target = rel.Target
	now, err := f.Resolve(ref)
	if err != nil || now.Number == rel.Number {
		return "", nil //nolint:nilerr // it goes on without its fleet, too
	}
	return fmt.Sprintf("session %s goes on in %s, on which it was begun; %s is %s by now", k.Name, rel, ref, now), nil
}

// Use notes that the session is about to be entered, on a release.
func (k *Kept) Use(rel Release, engine string, tools AddedTools) error {
	ids, now := k.st.Owners().Name(), time.Now().UTC().Truncate(time.Second)
	switch {
	case k.New:
		text, err := rel.Text()
		if err == nil {
			err = writeFile(filepath.Join(k.dir, keptLock), text, 0o600)
		}
		if err == nil {
			err = k.keepTools(rel, lock.Identity(text), tools.chosen)
		}
		if err == nil {
			err = os.Mkdir(k.Upper(), 0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("beginning session %s: %w", k.Name, err)
		}
		k.record = keptRecord{Target: rel.Target, Release: rel.Number, Identity: lock.Identity(text), Engine: engine,
			Ids: ids, Created: now}
	case engine != k.record.Engine:
		return &KeptError{k.Name, fmt.Sprintf("was begun with the engine %s, and can't go on with %s", k.record.Engine, engine),
			"--engine " + k.record.Engine}
	case ids != k.record.Ids:
		return k.otherIds(k.st.Owners())
	}
	k.record.Used = now
	text, err := encode(k.record)
	if err == nil {
		err = writeFile(filepath.Join(k.dir, keptFile), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("entering session %s: %w", k.Name, err)
	}
	return nil
}

// otherIds says that the session's files have owners that now are other ones.
func (k *Kept) otherIds(now store.Owners) error {
	return &KeptError{k.Name, "was begun with other user ids than there are now (" +
		cmp.Or(k.record.Ids, "the machine's") + ", not " + cmp.Or(now.Name(), "the machine's") + ")",
		"take another name, or bring /etc/subuid and /etc/subgid back to what they were"}
}

// Close lets go of the session. A new one that changed nothing, because nothing could
// be started in it, is forgotten where started is false.
func (k *Kept) Close(started bool) error {
	defer k.held.Close()
	if !k.New || started {
		return nil
	}
	if u, err := k.usage(); err != nil || u.files > 0 {
		return err
	}
	return k.st.Drop(keptDir, k.Name)
}

// DropKept removes a session, unless it is in use.
func DropKept(st *store.Store, name string) error {
	k, err := takeKept(st, name, unix.LOCK_EX, "removing")
	if errors.As(err, new(*damagedKept)) { // nothing else can be done with it
		k = &Kept{Name: name, st: st, dir: keptPath(st, name)}
		k.held, err = flockFolder(k.dir, unix.LOCK_EX)
	}
	if err != nil {
		return err
	}
	defer k.held.Close()
	err = runtime.RemoveAll(k.Upper()) // foreign code made it
	if err == nil {
		err = st.Drop(keptDir, name)
	}
	if err != nil {
		return fmt.Errorf("removing session %s: %w", name, err)
	}
	return nil
}
