package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/artifact"
)

// Artifact is a file that a build produced.
type Artifact struct {
	Path   string `json:"path"`   // below dist/TARGET
	Source string `json:"source"` // below the project
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"`
	Mode   string `json:"mode"` // octal

	// What the build gave it, where Mode has less: see special.
	BuiltMode string `json:"builtMode,omitempty"`

	// Verdict is on the target, for a package or archive on all that it holds; "" where it
	// is nothing that starts.
	Verdict artifact.Verdict `json:"verdict,omitempty"`
}

// Artifacts is artifacts.json: what a build brought, and what it was built for.
type Artifacts struct {
	Target    string        `json:"target"`
	Release   int           `json:"release"`
	Lock      digest.Digest `json:"lock"` // identity
	Revision  string        `json:"revision,omitempty"`
	Dirty     bool          `json:"dirty,omitempty"` // the sources weren't that revision
	Artifacts []Artifact    `json:"artifacts"`
	Evidence  []Evidence    `json:"evidence,omitempty"` // the files that tell of the build

	Verdict artifact.Verdict  `json:"verdict,omitempty"` // the worst of all
	Answers []artifact.Answer `json:"answers,omitempty"` // as check gives them, by their place in dist/TARGET
	Trial   *Trial            `json:"trial,omitempty"`
}

// artifactsFile is the list beside the artifacts.
const artifactsFile = "artifacts.json"

// ownFiles are the names in dist/TARGET that no artifact can have.
var ownFiles = []string{artifactsFile, statementFile, predicateFile, contentsFile}

// DistError says that dist, or a target's folder in it, can't take artifacts.
type DistError struct{ Path, Reason string }

func (e *DistError) Error() string {
	return fmt.Sprintf("artifacts go to %s, which %s", e.Path, e.Reason)
}

// Hint says how to go on.
func (e *DistError) Hint() string {
	return "move it away: stead makes a folder there"
}

// checkDist looks whether a project can take a target's artifacts.
func checkDist(projectDir, target string) error {
	project, err := os.OpenRoot(projectDir)
	if err != nil {
		return fmt.Errorf("building for %s: %w", target, err)
	}
	defer project.Close()
	for _, name := range []string{"dist", path.Join("dist", target)} {
		bad := func(reason string) error { return &DistError{filepath.Join(projectDir, name), reason} }
		there, err := project.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("building for %s: looking at %s: %w", target, name, cause(err))
		}
		to, err := project.Stat(name)
		switch linked := there.Mode()&fs.ModeSymlink != 0; {
		case linked && name != "dist":
			return bad("is a link, whose place the new folder would take") // nobody would find there what it leads to
		case linked && absent(err):
			return bad("is a link to where nothing is")
		case err != nil:
			return bad("is a link that leads out of the project")
		case !to.IsDir():
			return bad("is no folder")
		}
	}
	return nil
}

// bring copies artifacts out of a view to dist/TARGET of the project and takes the
// place of what was there: the folder is whole, before and after. What people put
// there stays. tell judges them in the folder that will be dist/TARGET, and makes the files
// that tell of the build.
func bring(ctx context.Context, view *os.Root, projectDir string, list Artifacts, found map[string]string,
	tell func(dir string, list *Artifacts) ([]Evidence, error), note func(string)) (Artifacts, error) {
	wrap := func(err error) error { return fmt.Errorf("bringing artifacts to dist/%s: %w", list.Target, err) }
	if err := checkDist(projectDir, list.Target); err != nil {
		return list, err // since the build began
	}
	project, err := os.OpenRoot(projectDir)
	if err != nil {
		return list, wrap(err)
	}
	defer project.Close()
	d := newDist(project, list.Target)
	if err := d.prepare(note); err != nil {
		return list, wrap(err)
	}
	defer project.RemoveAll(d.next) //nolint:errcheck // gone where all went well
	var lesser leftOut
	for _, dest := range slices.Sorted(maps.Keys(found)) {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		a, err := bringOne(view, project, found[dest], path.Join(d.next, dest), d.owner)
		if err != nil {
			return list, wrap(fmt.Errorf("%s: %w", found[dest], cause(err)))
		}
		if a.BuiltMode != "" {
			lesser.add(fmt.Sprintf("%s has mode %s, not %s", path.Join(d.target, dest), a.Mode, a.BuiltMode))
		}
		a.Path, a.Source = dest, found[dest]
		list.Artifacts = append(list.Artifacts, a)
	}
	if lesser.count > 0 {
		note(fmt.Sprintf("setuid, setgid and sticky bits are left to whoever installs: %s", &lesser))
	}
	if list.Evidence, err = tell(filepath.Join(projectDir, d.next), &list); err != nil {
		return list, wrap(err)
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return list, wrap(err)
	}
	for _, e := range append(list.Evidence, Evidence{Path: artifactsFile, data: append(text, '\n')}) {
		name := path.Join(d.next, e.Path)
		if err := errors.Join(project.WriteFile(name, e.data, 0o644), d.owner.take(project, name)); err != nil {
			return list, wrap(err)
		}
	}
	if err := d.swap(note); err != nil {
		return list, wrap(err)
	}
	return list, nil
}

// makeDir makes a folder unless it is there.
func makeDir(r *os.Root, dir string, owner ids) error {
	err := r.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return owner.take(r, dir)
}

func bringOne(view, project *os.Root, source, dest string, owner ids) (a Artifact, err error) {
	for dir := range parents(dest) {
		if err := makeDir(project, dir, owner); err != nil {
			return a, err
		}
	}
	in, err := view.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return a, err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return a, errors.Join(err, errors.New("it is not a regular file"))
	}
	out, err := project.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return a, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	err = errors.Join(err, out.Chmod(fi.Mode().Perm()), out.Sync(), out.Close(), owner.take(project, dest),
		project.Chtimes(dest, fi.ModTime(), fi.ModTime()))
	a = Artifact{Size: n, SHA256: hex.EncodeToString(h.Sum(nil)), Mode: fmt.Sprintf("%04o", fi.Mode().Perm())}
	if bits := special(fi.Mode()); bits != 0 {
		a.BuiltMode = fmt.Sprintf("%04o", bits|uint32(fi.Mode().Perm()))
	}
	return a, err
}

// special are the bits that stay behind: who builds as root would have a program in a
// project that makes root of anybody.
func special(mode fs.FileMode) (bits uint32) {
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// parents yields the folders of p below dist/.TARGET.new, outermost first.
func parents(p string) func(func(string) bool) {
	return func(yield func(string) bool) {
		parts := strings.Split(path.Dir(p), "/")
		for i := 3; i <= len(parts); i++ {
			if !yield(path.Join(parts[:i]...)) {
				return
			}
		}
	}
}

// ids own what a build brings; nil stands for this process's own.
type ids []int

func (o ids) take(r *os.Root, name string) error {
	if o == nil {
		return nil
	}
	return r.Lchown(name, o[0], o[1])
}

// invoker is who asked for it: under sudo, the person behind it.
func invoker() ids {
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	if os.Geteuid() != 0 || err1 != nil || err2 != nil || uid < 0 || gid < 0 {
		return nil
	}
	return ids{uid, gid}
}
