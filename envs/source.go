package envs

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Source is the state of the sources that a build is made of, as git knows it.
type Source struct {
	URI    string    // where git has them from, without credentials; "" where nobody else can reach that
	Commit string    // "" without git, or before the first commit
	Date   time.Time // the commit's
	Tree   string    // git's name of what was there, what isn't committed included; "" where that is too much to hash
	// Dirty says that what was there isn't the commit: files that git doesn't know
	// count, because a build sees them.
	Dirty bool
	// Ignored says that files lay there which git ignores. A build sees those, too, and
	// Tree doesn't have them.
	Ignored bool
}

// The bounds up to which changes are hashed for a provenance.
const (
	maxChanged      = 10_000
	maxChangedBytes = 256 << 20
)

// ReadSource asks git about a project. Its dist folder doesn't count. The error says why
// git doesn't tell; there is none where there is nothing to tell.
func ReadSource(ctx context.Context, dir string) (s Source, err error) {
	at, err := revision(ctx, dir)
	if err != nil || at == (commit{}) {
		return s, err
	}
	s.Commit, s.Date = at.id, at.date
	if out, err := gitOutput(ctx, dir, "remote", "get-url", "origin"); err == nil {
		s.URI = sourceURI(strings.TrimSpace(string(out)))
	}
	changed, ok := s.status(ctx, dir)
	if !ok {
		s.Dirty = true // unknown is not clean
		return s, nil
	}
	if !s.Dirty {
		if out, err := gitOutput(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD:./"); err == nil {
			s.Tree = strings.TrimSpace(string(out))
		}
	} else if little(dir, changed) {
		s.Tree = workTree(ctx, dir)
	}
	return s, nil
}

// notDist are the paths that count.
var notDist = []string{"--", ".", ":(exclude)dist"}

// status sets what git says of the files, and returns those that aren't as committed,
// relative to the project.
func (s *Source) status(ctx context.Context, dir string) (changed []string, ok bool) {
	prefix, err := gitOutput(ctx, dir, "rev-parse", "--show-prefix")
	if err != nil {
		return nil, false
	}
	above := strings.TrimSuffix(string(prefix), "\n")
	args := []string{"--no-optional-locks", "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignored=traditional", "--no-renames"}
	out, err := gitOutput(ctx, dir, append(args, notDist...)...)
	if err != nil {
		return nil, false
	}
	for entry := range bytes.SplitSeq(out, []byte{0}) {
		switch {
		case len(entry) < 4:
		case bytes.HasPrefix(entry, []byte("!!")):
			s.Ignored = true
		default:
			s.Dirty = true
			changed = append(changed, strings.TrimPrefix(string(entry[3:]), above))
		}
	}
	return changed, true
}

// little reports whether so little changed that hashing it costs nothing to speak of.
func little(dir string, changed []string) bool {
	var size int64
	for _, name := range changed {
		if fi, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			size += fi.Size()
		}
	}
	return len(changed) <= maxChanged && size <= maxChangedBytes
}

// workTree is git's name for the files as they are. Neither the index nor the objects
// of the repository change: what is new goes to a folder that is removed.
func workTree(ctx context.Context, dir string) string {
	tmp, err := os.MkdirTemp("", "stead-source-")
	if err != nil {
		return ""
	}
	defer os.RemoveAll(tmp)
	var paths [2]string
	for i, name := range []string{"index", "objects"} {
		out, err := gitOutput(ctx, dir, "rev-parse", "--path-format=absolute", "--git-path", name)
		if err != nil {
			return ""
		}
		paths[i] = strings.TrimSuffix(string(out), "\n")
	}
	index, objects := filepath.Join(tmp, "index"), filepath.Join(tmp, "objects")
	if os.Mkdir(objects, 0o700) != nil || copyInto(index, paths[0]) != nil {
		return ""
	}
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_INDEX_FILE="+index, "GIT_OBJECT_DIRECTORY="+objects,
			"GIT_ALTERNATE_OBJECT_DIRECTORIES="+paths[1])
		out, err := cmd.Output()
		return strings.TrimSuffix(string(out), "\n"), err
	}
	prefix, err := git("rev-parse", "--show-prefix")
	if err != nil {
		return ""
	}
	if _, err := git(append([]string{"-c", "core.looseCompression=0", "add", "--all"}, notDist...)...); err != nil {
		return ""
	}
	args := []string{"write-tree"}
	if prefix != "" {
		args = append(args, "--prefix="+prefix)
	}
	tree, err := git(args...)
	if err != nil {
		return ""
	}
	return tree
}

func copyInto(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

// sourceURI is where a repository can be had, for others and without secrets: SPDX's
// spelling of a git location.
func sourceURI(remote string) string {
	if host, path, ok := strings.Cut(remote, ":"); ok && !strings.Contains(host, "/") && !strings.HasPrefix(path, "//") {
		remote = "ssh://" + host + "/" + strings.TrimPrefix(path, "/") // as scp has it
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return "" // a folder of this machine
	}
	switch u.Scheme {
	case "https", "http", "git":
		u.User = nil
	case "ssh":
		if u.User != nil {
			u.User = url.User(u.User.Username())
		}
	default:
		return ""
	}
	u.RawQuery, u.Fragment = "", ""
	return "git+" + u.String()
}

// dependencies are the sources as provenance has them.
func (s Source) dependencies() []resource {
	if s.Commit == "" {
		return nil
	}
	digest := map[string]string{"gitCommit": s.Commit}
	if s.Tree != "" {
		digest["gitTree"] = s.Tree
	}
	return []resource{{Name: "source", URI: s.URI, Digest: digest,
		Annotations: map[string]any{"kind": "source", "dirty": s.Dirty, "ignored": s.Ignored}}}
}
