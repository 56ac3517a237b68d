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

	"github.com/bmatcuk/doublestar/v4"
	"github.com/opencontainers/go-digest"
)

// Artifact is a file that a build produced.
type Artifact struct {
	Path   string `json:"path"`   // below dist/TARGET
	Source string `json:"source"` // below the project
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"`
	Mode   string `json:"mode"` // octal
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
}

// artifactsFile is the list beside the artifacts.
const artifactsFile = "artifacts.json"

// ownFiles are the names in dist/TARGET that no artifact can have.
var ownFiles = []string{artifactsFile, statementFile, predicateFile, contentsFile}

// ArtifactError says that a pattern of stead.toml brings nothing, or nothing that
// may be taken.
type ArtifactError struct {
	Target, Pattern, Reason string
	Missing                 bool // it names no file
}

func (e *ArtifactError) Error() string {
	return fmt.Sprintf("collecting artifacts for %s: pattern %q %s", e.Target, e.Pattern, e.Reason)
}

// collect finds the files that the patterns name in a view: destination below
// dist/TARGET to path in the view. A pattern's folders before its first wildcard
// are left out of the destination.
func collect(ctx context.Context, view *os.Root, target string, patterns []string) (map[string]string, error) {
	found := map[string]string{}
	for _, pattern := range patterns {
		bad := func(reason string) error { return &ArtifactError{Target: target, Pattern: pattern, Reason: reason} }
		clean := path.Clean(pattern)
		if !filepath.IsLocal(clean) || clean == "." || !doublestar.ValidatePattern(clean) {
			return nil, bad("is no path below the project")
		}
		base, _ := doublestar.SplitPattern(clean)
		matched := 0
		add := func(dest, source string) error {
			if first, _, _ := strings.Cut(dest, "/"); slices.Contains(ownFiles, first) {
				return bad("brings a file by the name of " + first + ", which stead writes itself")
			}
			if other, ok := found[dest]; ok && other != source {
				return bad(fmt.Sprintf("brings %s to where %s goes too", source, other))
			}
			found[dest] = source
			matched++
			return nil
		}
		err := match(ctx, view, clean, base, add)
		if err != nil {
			return nil, err
		}
		if matched == 0 {
			return nil, &ArtifactError{target, pattern, "matches no file that the build left", true}
		}
	}
	return found, nil
}

// match calls add for the regular files, and links to such, that a pattern names
// below base; a folder that it names stands for all that is in it. os.Root lets no
// link lead out of the view.
func match(ctx context.Context, view *os.Root, pattern, base string, add func(dest, source string) error) error {
	err := fs.WalkDir(view.FS(), base, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if p == ".git" {
			return fs.SkipDir
		}
		if d.IsDir() || !matches(pattern, p) {
			return nil
		}
		fi, err := view.Stat(p)
		if err != nil {
			return fmt.Errorf("collecting artifact %s: %w", p, cause(err))
		}
		if !fi.Mode().IsRegular() {
			return nil
		}
		dest, err := filepath.Rel(base, p)
		if err != nil {
			return err
		}
		return add(dest, p)
	})
	return err
}

// matches reports whether a pattern names p or a folder around it.
func matches(pattern, p string) bool {
	for ; p != "."; p = path.Dir(p) {
		if doublestar.MatchUnvalidated(pattern, p) {
			return true
		}
	}
	return false
}

// bring copies artifacts out of a view to dist/TARGET of the project and takes the
// place of what was there: the folder is whole, before and after. evidence makes the
// files that tell of the build.
func bring(ctx context.Context, view *os.Root, projectDir string, list Artifacts, found map[string]string,
	evidence func([]Artifact) ([]Evidence, error)) (Artifacts, error) {
	wrap := func(err error) error { return fmt.Errorf("bringing artifacts to dist/%s: %w", list.Target, err) }
	project, err := os.OpenRoot(projectDir)
	if err != nil {
		return list, wrap(err)
	}
	defer project.Close()
	owner := invoker()
	dist := "dist"
	if err := makeDir(project, dist, owner); err != nil {
		return list, wrap(err)
	}
	next, old, final := path.Join(dist, "."+list.Target+".new"), path.Join(dist, "."+list.Target+".old"), path.Join(dist, list.Target)
	for _, dir := range []string{next, old} {
		if err := project.RemoveAll(dir); err != nil {
			return list, wrap(err)
		}
	}
	defer project.RemoveAll(next) //nolint:errcheck // gone where all went well
	if err := errors.Join(project.Mkdir(next, 0o755), owner.take(project, next)); err != nil {
		return list, wrap(err)
	}
	for _, dest := range slices.Sorted(maps.Keys(found)) {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		a, err := bringOne(view, project, found[dest], path.Join(next, dest), owner)
		if err != nil {
			return list, wrap(fmt.Errorf("%s: %w", found[dest], cause(err)))
		}
		a.Path, a.Source = dest, found[dest]
		list.Artifacts = append(list.Artifacts, a)
	}
	if list.Evidence, err = evidence(list.Artifacts); err != nil {
		return list, wrap(err)
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return list, wrap(err)
	}
	for _, e := range append(list.Evidence, Evidence{Path: artifactsFile, data: append(text, '\n')}) {
		name := path.Join(next, e.Path)
		if err := errors.Join(project.WriteFile(name, e.data, 0o644), owner.take(project, name)); err != nil {
			return list, wrap(err)
		}
	}
	if err := project.Rename(final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return list, wrap(err)
	}
	if err := project.Rename(next, final); err != nil {
		return list, wrap(err)
	}
	return list, project.RemoveAll(old)
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
	in, err := view.Open(source)
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
	return Artifact{Size: n, SHA256: hex.EncodeToString(h.Sum(nil)), Mode: fmt.Sprintf("%04o", fi.Mode().Perm())}, err
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
