package runtime

import (
	"strings"
	"testing"
)

// What JSON would change without a word is refused, with a way out.
func TestNotText(t *testing.T) {
	for _, spec := range []Spec{{Command: []string{"ls", "\xff"}}, {Command: []string{"ls"}, Env: []string{"A=\xff"}}, {Command: []string{"ls"}, Dir: "/\xff"}} {
		_, err := OCI(spec, Placement{})
		if bad, ok := err.(*Error); !ok || !strings.Contains(err.Error(), `\xff" is not UTF-8 text`) || !strings.Contains(bad.Remedy, `printf "\377"`) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}
