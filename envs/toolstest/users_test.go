package toolstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime/rootless/rootlesstest"
)

// TestUsers installs tools as somebody who is nobody special, with subordinate ids and
// with none, and makes ready what others installed.
func TestUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tools, err := w.make(w.busy()...)
	if err != nil {
		t.Fatal(err)
	}
	program := rootlesstest.Program(t)
	for name, subordinate := range map[string]bool{"subordinate ids": true, "a single id": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := rootlesstest.NewUser(t, subordinate)
			script := `cp -r "$1/fleet" "$2/" && mkdir -m 700 "$2/store" && cp -r "$1/store/blobs" "$2/store/" && chown -R "$3:$4" "$2/fleet" "$2/store"`
			cmd := exec.Command("sh", "-ec", script, "sh", filepath.Dir(w.cfg.Store.Dir()), u.Home, fmt.Sprint(u.UID), fmt.Sprint(u.GID))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			do := func(what task) outcome {
				t.Helper()
				what.Store = filepath.Join(u.Home, "store")
				text, err := json.Marshal(what)
				if err != nil {
					t.Fatal(err)
				}
				var errs bytes.Buffer
				cmd := u.Command(t, program)
				cmd.Env = append(cmd.Env, actAs+"="+string(text))
				cmd.Stderr = &errs
				out, err := cmd.Output()
				var o outcome
				if err == nil {
					err = json.Unmarshal(out, &o)
				}
				if err != nil {
					t.Fatalf("%v\n%s%s", err, out, errs.String())
				}
				return o
			}
			const look = `stat -c '%n %a %u:%g' /usr/bin/busy /usr/lib/made/file /usr/share/busy/table /usr/lib/closed; busy; cat /usr/lib/made/same`
			want := "/usr/bin/busy 700 0:0\n/usr/lib/made/file 644 0:0\n/usr/share/busy/table 2755 0:0\n/usr/lib/closed 2775 0:50\nbusy\nmade\n"
			if !subordinate {
				want = strings.ReplaceAll(want, "0:50", "0:0")
			}
			if got := do(task{Tools: tools, Look: look}); got.Output != want {
				t.Errorf("pulled, got\n%s\nwant\n%s", got.Output, want)
			}
			made := do(task{Packages: w.busy(), Look: look})
			if made.Output != want || subordinate && made.Tools.Digest != tools.Digest {
				t.Errorf("made, got %s\n%s\nwant %s\n%s\n%s", made.Tools.Digest, made.Output, tools.Digest, want, made.Notes)
			}
			if strings.Join(made.Tools.Shadows, " ") != strings.Join(tools.Shadows, " ") {
				t.Errorf("the layer shadows %q instead of %q", made.Tools.Shadows, tools.Shadows)
			}
		})
	}
}

// TestKilled ends a process that installs tools: only its work is left, which the next
// one clears.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.build(deb{name: "slow", files: map[string]string{"/usr/share/slow/x": "x"},
		scripts: map[string]string{"postinst": "echo here >/usr/share/slow/marker\nif ! [ -e /usr/share/quick ]; then sleep 600; fi\n"}})
	text, err := json.Marshal(task{Store: w.cfg.Store.Dir(), Packages: []lock.Package{slow}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), actAs+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(w.cfg.Store.Dir(), "work/*/tools-*/session/upper/usr/share/slow/marker")
	for {
		if found, _ := filepath.Glob(marker); len(found) > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
	cmd.Wait() //nolint:errcheck // it was killed
	if layers, _ := filepath.Glob(filepath.Join(w.cfg.Store.Dir(), "layers/*")); len(layers) > 0 {
		t.Errorf("%v was made", layers)
	}
	next, err := store.Open(w.cfg.Store.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(marker); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	quick := w.build(deb{name: "quick", files: map[string]string{"/usr/share/quick": "x"}})
	tools, err := w.make(quick, slow)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.must(w.layer(tools), "cat /usr/share/slow/marker"); got != "here\n" {
		t.Errorf("got %q", got)
	}
	w.checked(w.layer(tools), tools)
}
