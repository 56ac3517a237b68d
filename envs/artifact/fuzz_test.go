package artifact

import (
	"bytes"
	"os"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// FuzzFile holds that a file that can't be read as an object never starts, that any other
// has an answer, and that nothing but starts is said without a reason.
func FuzzFile(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	if b, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(b)
	}
	target := acme()
	f.Fuzz(func(t *testing.T, data []byte) {
		file := File{Name: "app", Path: "/opt/app/app", Executable: true, Head: data[:min(len(data), HeadSize)]}
		file.Object, file.Err = object.Read(bytes.NewReader(data), int64(len(data)))
		lib := file
		lib.Name, lib.Path = "libapp.so.1", "/opt/app/libapp.so.1"
		answers, err := target.Judge(t.Context(), &Set{Files: []File{file, lib}})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if a.Verdict == Starts && file.Err != nil && bytes.HasPrefix(data, []byte("\x7fELF")) {
				t.Errorf("%s starts, and is %v", a.File, file.Err)
			}
			if a.Verdict != Starts && len(a.Reasons) == 0 {
				t.Errorf("%s: %s without a reason", a.File, a.Verdict)
			}
		}
	})
}
