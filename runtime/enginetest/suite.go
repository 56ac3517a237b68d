package enginetest

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime"
)

// Options say what an engine can't give, and with it what the suite doesn't ask
// for. The zero value asks for everything.
type Options struct {
	UID, GID     uint32 // who sessions are where a test doesn't say
	OneUser      bool   // users inside other than root and the one who runs stead
	NoNamespaces bool   // sees, and shares, this machine's processes, mounts, names and network
	NoSeccomp    bool   // no system call filter
	// Copies: what is mounted is copied in, and brought back at the end. What is
	// read-only takes writes, which reach nothing outside, and there is no /proc.
	Copies bool
}

// suite is one engine under test.
type suite struct {
	engine   runtime.Engine
	options  Options
	root     string
	other    string // shares the files of root
	scratch  string
	sessions *sessions // that were ever in scratch
}

// Run runs the conformance suite on an engine, the one that Main was given. It returns
// the names of all that ever was in its sessions' scratch folder.
func Run(t *testing.T, engine runtime.Engine, options Options) []string {
	if err := engine.Check(t.Context()); err != nil {
		t.Fatalf("the engine can't run here: %v", err)
	}
	s := &suite{engine: engine, options: options, root: Root(t), scratch: t.TempDir()}
	s.other, s.sessions = twin(t, s.root), watch(t, s.scratch)
	before := manifest(t, s.root) + manifest(t, s.other)
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"exit codes", s.exitCodes},
		{"streams", s.streams},
		{"process", s.process},
		{"mounts", s.mounts},
		{"cover", s.cover},
		{"links", s.links},
		{"network", s.network},
		{"isolation", s.isolation},
		{"privileges", s.privileges},
		{"kernel", s.kernel},
		{"other root", s.otherRoot},
		{"kept upper", s.keptUpper},
		{"layers", s.layers},
		{"kept owners", s.keptOwners},
		{"at once", s.atOnce},
		{"deep", s.deep},
		{"stragglers", s.stragglers},
		{"cancel", s.cancel},
		{"signals", s.signals},
		{"killed", s.killed},
		{"many", s.many},
		{"terminal", s.terminal},
		{"hang-up", s.hangup},
	} {
		t.Run(test.name, test.run)
	}
	if after := manifest(t, s.root) + manifest(t, s.other); after != before {
		t.Errorf("a root filesystem was written to:\n%s", differ(before, after))
	}
	s.nothingLeft(t)
	return s.sessions.seen(t)
}

// identity stands for the content of the suite's root.
var identity = "sha256:" + strings.Repeat("1", 64)

// spec is a session of the suite's root; args are the command.
func (s *suite) spec(args ...string) runtime.Spec {
	return runtime.Spec{
		Name: "acme@1", Root: s.root, Identity: identity, Scratch: s.scratch, Command: args, Hostname: "acme",
		Env: []string{"PATH=/bin:/usr/bin"}, Umask: 0o022, UID: s.options.UID, GID: s.options.GID,
	}
}

// output runs a session and returns what it wrote.
func (s *suite) output(t *testing.T, spec runtime.Spec) (stdout, stderr string, res runtime.Result) {
	t.Helper()
	var out, errs bytes.Buffer
	res, err := s.engine.Run(t.Context(), spec, runtime.Stdio{Out: &out, Err: &errs})
	if err != nil {
		t.Fatalf("%q: %v\n%s", spec.Command, err, errs.String())
	}
	return out.String(), errs.String(), res
}

// shell runs a script and returns its standard output, without the last newline;
// it must succeed.
func (s *suite) shell(t *testing.T, spec runtime.Spec, script string) string {
	t.Helper()
	spec.Command = []string{"bash", "-c", script}
	stdout, stderr, res := s.output(t, spec)
	if res.ExitCode != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", script, res.ExitCode, stdout, stderr)
	}
	return strings.TrimSuffix(stdout, "\n")
}

func (s *suite) exitCodes(t *testing.T) {
	for _, test := range []struct {
		script string
		code   int
	}{
		{"exit 0", 0}, {"exit 1", 1}, {"exit 42", 42}, {"exit 125", 125}, {"exit 126", 126}, {"exit 127", 127}, {"exit 255", 255},
		{"kill -TERM $$", 143}, {"kill -KILL $$", 137}, {"kill -SEGV $$", 139},
	} {
		if _, _, res := s.output(t, s.spec("bash", "-c", test.script)); res.ExitCode != test.code {
			t.Errorf("%s: exit code %d, want %d", test.script, res.ExitCode, test.code)
		}
	}
	for _, test := range []struct {
		command string
		code    int
	}{
		{"nosuch", 127}, {"/bin/nosuch", 127}, {"./nosuch", 127}, {"/etc/passwd", 126}, {"/etc", 126},
	} {
		var errs bytes.Buffer
		res, err := s.engine.Run(context.Background(), s.spec(test.command), runtime.Stdio{Err: &errs})
		if code := runtime.ExitCode(err); err == nil || code != test.code {
			t.Errorf("%s: exit code %d of %v, want %d; result %v\n%s", test.command, code, err, test.code, res, errs.String())
		}
	}
}
