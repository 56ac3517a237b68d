package oci_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/oci"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the embedded engine needs root")
	}
}

// variable chooses the OCI runtime of the suite, here and in its helpers.
const variable = "STEAD_TEST_RUNTIME"

func TestConformance(t *testing.T) {
	needRoot(t)
	for _, binary := range []string{"runc", "crun"} {
		t.Run(binary, func(t *testing.T) {
			if _, err := exec.LookPath(binary); err != nil {
				t.Skipf("%s isn't installed", binary)
			}
			t.Setenv(variable, binary)
			enginetest.Run(t, oci.New(binary), enginetest.Options{})
		})
	}
}
