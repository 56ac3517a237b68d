package enginetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/runtime"
)

// deep leaves more folders inside each other than a path can name. That must end
// neither this session nor the next ones.
func (s *suite) deep(t *testing.T) {
	project := t.TempDir()
	must(t, os.Chmod(project, 0o777))
	spec := s.spec("bash", "-c", `set -e
		p=$(printf 'd/%.0s' $(seq 1100)); p=${p%/}
		for top in /tmp /work; do
			cd $top; echo file >file
			for i in 1 2; do mkdir -p $p; cd -P $p 2>/dev/null; done
			echo deep >file
		done`)
	spec.Mounts = []runtime.Mount{{Source: project, Target: "/work"}}
	_, errs, res := s.output(t, spec)
	if res.ExitCode != 0 || res.Changed < 2 {
		t.Errorf("exit code %d, %d files changed, want 0 and at least 2\n%s", res.ExitCode, res.Changed, errs)
	}
	if data, err := os.ReadFile(filepath.Join(project, "file")); err != nil || string(data) != "file\n" {
		t.Errorf("the project has %q, %v", data, err)
	}
	must(t, runtime.RemoveAll(project))
	must(t, os.Mkdir(project, 0o755))
	must(t, s.engine.Sweep(t.Context(), s.scratch))
	s.nothingLeft(t)
}
