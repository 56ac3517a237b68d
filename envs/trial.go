package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/stead-env/stead/runtime"
)

// Trial is what came of stead.toml's trial: a command that starts artifacts where they
// were built, without tools, under the target's kernel.
type Trial struct {
	Command []string `json:"command"`
	Kernel  string   `json:"kernel,omitempty"` // that it was shown; "" for this machine's own
	// ExitCode is the command's. Where it could not be run at all Error says why.
	ExitCode int    `json:"exitCode"`
	Error    string `json:"error,omitempty"`
	// Programs are the artifacts among all that ran.
	Programs []TrialProgram `json:"programs,omitempty"`
	Log      string         `json:"log,omitempty"` // on this machine: what it wrote
}

// TrialProgram is an artifact that a trial started, or could not.
type TrialProgram struct {
	Path    string `json:"path"` // below dist/TARGET
	Started bool   `json:"started"`
	// Loaded is what it loaded by dlopen, as it asked for it; null where no loader told.
	Loaded []string `json:"loaded"`
}

// OK reports whether the command ran and was content.
func (t *Trial) OK() bool { return t.Error == "" && t.ExitCode == 0 }

// Problem says what went wrong, for people.
func (t *Trial) Problem() string {
	switch {
	case t.Error != "":
		return "it could not be run: " + t.Error
	case t.ExitCode != 0:
		return fmt.Sprintf("it ended with exit code %d", t.ExitCode)
	}
	return ""
}

// trialDir is where a session has what its loaders tell.
const trialDir = sessionDir + "/trial"

// try runs stead.toml's trial in the view. found are the artifacts: their places below
// dist/TARGET, and in the view.
func (r *builder) try(ctx context.Context, found map[string]string) (*Trial, error) {
	t := &Trial{Command: r.build.Trial, Programs: []TrialProgram{}}
	wrap := func(err error) error { return fmt.Errorf("trying what was built for %s: %w", r.release.Target, err) }
	logs := filepath.Join(filepath.Dir(r.view.Dir), "trial")
	if err := errors.Join(runtime.RemoveAll(logs), os.MkdirAll(logs, 0o700)); err != nil {
		return nil, wrap(err)
	}
	t.Log = logs + ".log"
	log, err := createLog(t.Log)
	if err != nil {
		return nil, wrap(err)
	}
	defer log.Close() //nolint:errcheck // it is read below, which tells
	spec, err := r.trialSpec(ctx, logs)
	if err != nil {
		return nil, err
	}
	if spec.Kernel != nil {
		t.Kernel = spec.Kernel.Release
	}
	r.phase(PhaseTrying, commandText(t.Command))
	var out io.Writer = log
	if r.opts.Output != nil {
		r.cfg.Progress.Note("building", fmt.Sprintf("%s: trying: %s", r.release, commandText(t.Command)))
		out = &both{log, r.opts.Output}
	}
	result, err := r.engine.Run(ctx, spec, runtime.Stdio{Out: out, Err: out})
	var not *runtime.Error
	if errors.As(err, &not) && not.Code == runtime.CodeEngine && spec.Kernel != nil { // not all engines can show one
		r.note(fmt.Sprintf("%s: the trial runs under this machine's kernel: %v", r.release, err))
		spec.Kernel, t.Kernel = nil, ""
		result, err = r.engine.Run(ctx, spec, runtime.Stdio{Out: out, Err: out})
	}
	for _, note := range result.Notes {
		r.note(note)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	switch {
	case err == nil:
		t.ExitCode = result.ExitCode
	case errors.As(err, &not) && not.Code != runtime.CodeEngine:
		t.ExitCode, t.Error = not.Code, not.Error()
	default:
		return nil, wrap(err)
	}
	list, err := readLoads(logs)
	if err != nil {
		return nil, wrap(err)
	}
	t.Programs = triedPrograms(t, list, found, path.Clean(filepath.ToSlash(spec.Dir)), loaderGaveUp(t.Log))
	return t, nil
}

// trialSpec is the session of a trial: a build's, but without tools, and with the
// target's kernel where that is known.
func (r *builder) trialSpec(ctx context.Context, logs string) (runtime.Spec, error) {
	opts, err := r.view.session(r.settings, r.build)
	if err != nil {
		return runtime.Spec{}, fmt.Errorf("trying what was built for %s: %w", r.release.Target, err)
	}
	opts.Network, opts.Command, opts.Progress = runtime.NetworkNone, r.build.Trial, r.cfg.Progress
	opts.own = append(opts.own, Mount{Mount: runtime.Mount{Source: logs, Target: trialDir}})
	vars := map[string]string{"LD_DEBUG": loadsDebug, "LD_DEBUG_OUTPUT": trialDir + "/log"}
	for name, value := range opts.Variables {
		vars[name] = value
	}
	opts.Variables = vars
	made := r.made
	made.Tools = nil
	opts.Kernel = OfTarget
	spec, err := SessionSpec(ctx, r.cfg.Store, made, r.project, opts)
	var unknown *KernelError
	if !errors.As(err, &unknown) {
		return spec, err
	}
	r.note(fmt.Sprintf("%s: the trial runs under this machine's kernel: %s", r.release, unknown.Text))
	opts.Kernel = Own
	return SessionSpec(ctx, r.cfg.Store, made, r.project, opts)
}

// triedPrograms are the artifacts among the programs whose loaders told of them, and the
// one that the command names, which may have no loader. dir is where the command ran,
// gaveUp the program that a loader complained of.
func triedPrograms(t *Trial, list []loads, found map[string]string, dir, gaveUp string) []TrialProgram {
	programs := []TrialProgram{}
	index := func(dest string) int {
		return slices.IndexFunc(programs, func(p TrialProgram) bool { return p.Path == dest })
	}
	for _, l := range list {
		dest := artifactNamed(l.name, found, dir)
		if dest == "" {
			continue
		}
		i := index(dest)
		if i < 0 {
			i, programs = len(programs), append(programs, TrialProgram{Path: dest, Loaded: []string{}})
		}
		p := &programs[i]
		p.Started, p.Loaded = p.Started || l.started, append(p.Loaded, l.opened...)
	}
	// What a loader said nothing of at its end may have started, and told others why not.
	programs = slices.DeleteFunc(programs, func(p TrialProgram) bool {
		return !p.Started && artifactNamed(gaveUp, found, dir) != p.Path
	})
	for i, p := range programs {
		slices.Sort(p.Loaded)
		programs[i].Loaded = slices.Compact(p.Loaded)
	}
	if dest := artifactNamed(t.Command[0], found, dir); dest != "" && index(dest) < 0 {
		started := t.Error == "" && artifactNamed(gaveUp, found, dir) != dest
		programs = append(programs, TrialProgram{Path: dest, Started: started})
	}
	slices.SortFunc(programs, func(a, b TrialProgram) int { return strings.Compare(a.Path, b.Path) })
	return programs
}

// artifactNamed is the artifact that a program was called by: an absolute path, one from
// where the trial began, or, where the command went elsewhere, the only one of that name.
func artifactNamed(name string, found map[string]string, dir string) string {
	if !strings.Contains(name, "/") {
		return "" // it was looked for in PATH
	}
	full := name
	if !path.IsAbs(name) {
		full = path.Join(dir, name)
	}
	alike := ""
	for dest, source := range found {
		if path.Join(dir, source) == full {
			return dest
		}
		if path.Base(source) == path.Base(name) && !path.IsAbs(name) {
			if alike != "" {
				return ""
			}
			alike = dest
		}
	}
	return alike
}

// complaints are what loaders of glibc and musl write when they give up on a program.
var complaints = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^([^\s:]+): error while loading shared libraries: `),
	regexp.MustCompile(`(?m)^([^\s:]+): symbol lookup error: `),
	regexp.MustCompile(`(?m)^([^\s:]+): .*: version .* not found \(required by `),
	regexp.MustCompile(`(?m)^Error loading shared library .*\(needed by ([^\s()]+)\)$`),
	regexp.MustCompile(`(?m)^Error relocating ([^\s:]+): .*: symbol not found$`),
}

// loaderGaveUp is the program that a loader said it can't start, in the end of a log; ""
// for none.
func loaderGaveUp(log string) string {
	text, err := readTail(log, 64<<10)
	if err != nil {
		return ""
	}
	for _, re := range complaints {
		if m := re.FindSubmatch(text); m != nil {
			return string(m[1])
		}
	}
	return ""
}

// readTail reads the last bytes of a file.
func readTail(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(fi.Size()-most, 0), most))
}
