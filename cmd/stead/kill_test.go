package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// killed is how often each command is killed, at instants spread over its run.
const killed = 50

// killer kills commands at random instants of their run.
type killer struct {
	random *rand.Rand
	delay  time.Duration // of the archive's answers while commands are killed: fetching takes its part
	lasts  time.Duration // an undisturbed run
	faster int           // runs that were done before their instant
}

// measure takes the fastest of some undisturbed runs.
func (k *killer) measure(run func()) {
	var took []time.Duration
	for range 3 {
		begun := time.Now()
		run()
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	k.lasts = took[0]
}

// kill starts a command and kills it, with all that it started, in the part'th of
// all equal parts of a run that begins with nothing, as a fresh one does. False: it
// was done before that.
func (k *killer) kill(t *testing.T, cmd *exec.Cmd, part int, fresh bool) bool {
	t.Helper()
	after := time.Duration((float64(part) + k.random.Float64()) / killed * float64(k.lasts))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	if err := group(cmd).Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(after):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // or it is just gone
		err = <-done
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("before it was killed: %v\n%s", err, out.String())
	}
	if k.faster++; fresh {
		k.lasts = min(k.lasts, time.Since(begun)) // the machine is less busy than it was
	}
	return false
}

// Whatever the instant at which a command dies: nothing that it left is believed
// unless it is whole, and the next one comes to the same result.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := smallHost(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &killer{random: rand.New(rand.NewPCG(seed, 0)), delay: 10 * time.Millisecond}
	want := s.identities("reference")
	s.in(t, "snapshot", func(s *small) {
		cmd := func() *exec.Cmd { return s.command("fleet", "lead", "snapshot", s.host, "acme", "--yes") }
		same := func() {
			s.t.Helper()
			if got := s.identities("fleet"); !slices.Equal(got, want) {
				s.t.Errorf("the releases %v came of it instead of %v", got, want)
			}
		}
		k.once(s, cmd, []string{"fleet", "lead"}, "fleet", "lead", same)
		for row := range 3 { // the host goes on, and so do its releases
			s.write("host/opt/acme/more", fmt.Sprint("row ", row))
			s.must(s.command("fresh", "fresh-store", "snapshot", s.host, "acme", "--yes"))
			want = append(want, s.identities("fresh")[0])
			k.inRow(s, cmd, "fleet", "lead", same)
			if _, err := os.Stat(s.path("fleet/acme", fmt.Sprint(len(want), ".changes"))); err != nil {
				s.t.Error(err)
			}
			s.remove("fresh", "fresh-store")
		}
	})
	s.in(t, "pull", func(s *small) {
		root := s.pullFrom("reference", "one")
		manifest := s.must(exec.Command("sha256sum", root+"/../manifest"))
		s.must(s.command("reference", "one", "fsck", "acme"))
		cmd := func() *exec.Cmd { return s.command("reference", "two", "pull", "acme") }
		same := func() {
			s.t.Helper()
			got := s.must(exec.Command("sha256sum", s.pullFrom("reference", "two")+"/../manifest"))
			if got[:64] != manifest[:64] {
				s.t.Errorf("the root %s came of it instead of %s", got, manifest)
			}
			if k.random.IntN(10) == 0 {
				s.must(s.command("reference", "two", "fsck", "acme"))
			}
		}
		k.delay *= 2 // there is less to do
		k.once(s, cmd, []string{"two"}, "reference", "two", same)
		for range 3 {
			s.remove("two")
			k.inRow(s, cmd, "reference", "two", same)
		}
	})
}

// once kills the command at all of its instants, each time from the beginning.
func (k *killer) once(s *small, cmd func() *exec.Cmd, reset []string, fleet, store string, same func()) {
	s.t.Helper()
	s.mirror.wait(k.delay)
	k.measure(func() { s.remove(reset...); s.must(cmd()) })
	k.faster = 0
	for part := range killed {
		for hit := false; !hit; {
			s.remove(reset...)
			s.mirror.wait(k.delay)
			hit = k.kill(s.t, cmd(), part, true)
			s.mirror.wait(0)
		}
		s.sound(fleet, store)
		s.goesOn(cmd(), fleet, store, same)
		if s.t.Failed() {
			s.t.Fatalf("killed in part %d of %d of a run of %s", part, killed, k.lasts)
		}
	}
	s.t.Logf("killed at %d instants of a run of %s; %d runs were done before their instant",
		killed, k.lasts.Round(time.Millisecond), k.faster)
}

// inRow kills the command several times over what the one before left.
func (k *killer) inRow(s *small, cmd func() *exec.Cmd, fleet, store string, same func()) {
	s.t.Helper()
	for range 5 {
		k.kill(s.t, cmd(), k.random.IntN(killed), false)
		s.sound(fleet, store)
	}
	s.goesOn(cmd(), fleet, store, same)
}

// goesOn wants a command to finish what others left, and to come to the same.
func (s *small) goesOn(cmd *exec.Cmd, fleet, store string, same func()) {
	s.t.Helper()
	s.must(cmd)
	same()
	s.clean(fleet, store)
}

// pullFrom pulls with a fleet, and returns the root.
func (s *small) pullFrom(fleet, store string) string {
	s.t.Helper()
	var answers []struct{ Root string }
	s.answer(s.command(fleet, store, "pull", "acme", "--json"), &answers)
	if len(answers) != 1 {
		s.t.Fatalf("pull answered %v", answers)
	}
	return answers[0].Root
}
