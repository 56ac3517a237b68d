package envs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
)

// jobs shares this machine among builds. They have a job server as GNU make's, a fifo
// with one byte for each job more that may run ("POSIX Jobserver Interaction" in make's
// manual), so that whatever one build leaves idle another takes. ninja, cargo and gcc's
// link-time optimizer ask it, too.
type jobs struct {
	total int
	share int      // of each build, where there is no server
	fifo  *os.File // open for as long as there are builds, so that it keeps its bytes
}

// jobsPath is where a session has the fifo.
const jobsPath = sessionDir + "/jobs"

// maxTokens fit into a fifo of one page, the least there is: giving more would wait forever.
const maxTokens = 4000

// newJobs is for so many builds at once, each of which runs one job anyway. One alone
// has all of them, and needs no server for it.
func newJobs(s *store.Store, c Capacity) (*jobs, error) {
	c.Jobs = min(c.Jobs, maxTokens)
	j := &jobs{total: c.Jobs, share: max(c.Jobs/c.Builds, 1)}
	if c.Builds == 1 {
		return j, nil
	}
	dir, err := s.WorkDir("jobs")
	if err == nil {
		name := filepath.Join(dir, "fifo")
		// The umask of this process is not the session's business, whose user may be another.
		if err = unix.Mkfifo(name, 0o600); err == nil {
			err = unix.Chmod(name, 0o666)
		}
		if err == nil {
			j.fifo, err = os.OpenFile(name, os.O_RDWR, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("making a job server: %w", err)
	}
	return j, j.give(c.Jobs - c.Builds)
}

// give lets n more jobs run. A build that ends, and after which no other one begins,
// gives its own.
func (j *jobs) give(n int) error {
	if j.fifo == nil || n <= 0 {
		return nil
	}
	if _, err := j.fifo.Write(bytes.Repeat([]byte{'+'}, n)); err != nil {
		return fmt.Errorf("writing to the job server: %w", err)
	}
	return nil
}

func (j *jobs) close() {
	if j.fifo != nil {
		j.fifo.Close()
		os.RemoveAll(filepath.Dir(j.fifo.Name())) //nolint:errcheck // the store clears its work folder
	}
}

// tell gives a session what its commands need to keep to the share. What the project
// sets itself stays. An engine that copies what it mounts can't share a fifo.
func (j *jobs) tell(spec runtime.Spec, engine string) runtime.Spec {
	spec.Env, spec.Mounts, spec.Command = slices.Clone(spec.Env), slices.Clone(spec.Mounts), slices.Clone(spec.Command)
	has := func(name string) bool {
		return slices.ContainsFunc(spec.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	set := func(name, value string) {
		if !has(name) {
			spec.Env = append(spec.Env, name+"="+value)
		}
	}
	share := strconv.Itoa(j.share)
	set("STEAD_JOBS", share)
	if ownJobs(spec.Command) || has("MAKEFLAGS") {
		return spec
	}
	auth := ""
	if j.fifo != nil && engine != "chroot" {
		auth = j.auth(&spec)
	}
	if auth == "" {
		set("MAKEFLAGS", "-j"+share)
		set("CMAKE_BUILD_PARALLEL_LEVEL", share)
		set("CARGO_BUILD_JOBS", share)
		return spec
	}
	set("MAKEFLAGS", " -j"+strconv.Itoa(j.total)+auth)
	spec.Mounts = append(spec.Mounts, runtime.Mount{Source: j.fifo.Name(), Target: jobsPath})
	return spec
}

// ownJobs reports whether a command says by itself how many jobs it runs.
func ownJobs(command []string) bool {
	return slices.ContainsFunc(command, func(word string) bool {
		return strings.HasPrefix(word, "-j") || strings.HasPrefix(word, "--jobs") || strings.HasPrefix(word, "--parallel")
	})
}

// inherits are commands that give open files on to what they start. Others close them,
// as Python does, and make would then run one job.
var inherits = []string{"make", "gmake", "sh", "bash", "dash", "env", "cmake"}

// auth is how the session's make is told of the fifo: by name from 4.4 on, before by the
// numbers of open files, which a shell opens for it; "" where neither does.
func (j *jobs) auth(spec *runtime.Spec) string {
	layers := append(slices.Clone(spec.Lower), spec.Root)
	named := true // where there is no make, for others
	for _, dir := range strings.Split(runtime.SearchPath(spec.Env), ":") {
		for _, name := range []string{"make", "gmake"} {
			if program := findProgram(layers, path.Join(dir, name)); program != "" {
				named = named && holds(program, "fifo:")
			}
		}
	}
	if named {
		return " --jobserver-auth=fifo:" + jobsPath
	}
	if !slices.Contains(inherits, path.Base(spec.Command[0])) || findProgram(layers, "/bin/sh") == "" {
		return ""
	}
	script := fmt.Sprintf(`exec 8<>%s 9<>%s && exec "$@"`, jobsPath, jobsPath)
	spec.Command = append([]string{"/bin/sh", "-c", script, "sh"}, spec.Command...)
	return " --jobserver-fds=8,9 --jobserver-auth=8,9" // as it was called before 4.2, and since
}

// findProgram is where a path of the session lies in the topmost layer that has it, or "".
// The links of the last layer, the root, count for all: /bin is one.
func findProgram(layers []string, at string) string {
	for range 10 { // links, as alternatives are
		dir, err := runtime.Resolve(layers[len(layers)-1], path.Dir(at))
		if err != nil {
			return ""
		}
		at = path.Join(dir, path.Base(at))
		i := slices.IndexFunc(layers, func(layer string) bool {
			_, err := os.Lstat(filepath.Join(layer, at))
			return err == nil
		})
		if i < 0 {
			return ""
		}
		p := filepath.Join(layers[i], at)
		target, err := os.Readlink(p)
		if err != nil {
			if isProgram(p) {
				return p
			}
			return ""
		}
		if !path.IsAbs(target) {
			target = path.Join(dir, target)
		}
		at = target
	}
	return ""
}

func isProgram(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// maxProgram bounds what is read of a program.
const maxProgram = 16 << 20

// holds reports whether a program has a piece of text in it.
func holds(name, text string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var tail []byte
	buf := make([]byte, 64<<10)
	r := io.LimitReader(f, maxProgram)
	for {
		n, err := r.Read(buf)
		tail = append(tail, buf[:n]...)
		if bytes.Contains(tail, []byte(text)) {
			return true
		}
		if err != nil && !errors.Is(err, io.ErrNoProgress) {
			return false
		}
		tail = slices.Clone(tail[max(len(tail)-len(text), 0):])
	}
}
