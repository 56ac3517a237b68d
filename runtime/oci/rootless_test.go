package oci_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/rootless"
	"github.com/stead-env/stead/runtime/rootless/rootlesstest"
	"github.com/stead-env/stead/runtime/session"
)

// sessionsAs is set in a copy of the test program that an ordinary user runs, to who
// the sessions of the suite are.
const sessionsAs = "STEAD_TEST_SESSIONS_AS"

func TestMain(m *testing.M) {
	if code, ok := session.Hook(os.Args); ok {
		os.Exit(code)
	}
	if inside, _, err := rootless.Await(); os.Getenv(sessionsAs) != "" && !inside && rootless.Needed() {
		code := 1
		if err == nil {
			code, err = rootless.Enter(rootless.Find(os.TempDir()))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	enginetest.Main(m, oci.New(os.Getenv(variable)))
}

// TestRootless runs the suite as an ordinary user, with subordinate ids and with
// none, and each with sessions of root and of the user.
func TestRootless(t *testing.T) {
	if who := os.Getenv(sessionsAs); who != "" {
		_, err := rootless.Subordinate()
		options := enginetest.Options{OneUser: err != nil}
		if who == "user" {
			options.UID, options.GID = uint32(os.Getuid()), uint32(os.Getgid())
		}
		enginetest.Run(t, oci.New(""), options)
		return
	}
	needRoot(t)
	program := rootlesstest.Program(t)
	for _, ids := range []string{"subordinate ids", "a single id"} {
		for _, who := range []string{"root", "user"} {
			u := rootlesstest.NewUser(t, ids == "subordinate ids")
			t.Run(ids+", sessions of "+who, func(t *testing.T) {
				t.Parallel()
				cmd := u.Command(t, program, "-test.run=^TestRootless$", "-test.v")
				cmd.Env = append(cmd.Env, sessionsAs+"="+who)
				if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestRootless") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
