package loader

import (
	"debug/elf"
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
)

// muslBind is an object that has a name: musl doesn't look at versions, only at whether a
// symbol is the default of its name.
func (k *link) muslBind(hash uint64, name string) *Mapped {
	if k.looked += len(k.scope); k.looked > maxLooked {
		k.end(k.main, "its symbols have no end")
		return nil
	}
	for _, m := range k.scope {
		if muslLookup(m.Object, hash, name) != nil {
			return m
		}
	}
	base, ok := strings.CutSuffix(name, "64")
	ok = ok && lfs64[base]
	if name == "readdir64_r" {
		base, ok = "readdir_r", true
	}
	if ok && k.self != nil && muslHas(k.self, base) { // even where nobody needs the C library
		return &Mapped{Name: k.loader.Path, File: k.file, Object: k.self, itself: true}
	}
	return nil
}

func muslHas(o *object.Object, name string) bool {
	return muslLookup(o, object.Hash(name), name) != nil
}

func muslLookup(o *object.Object, hash uint64, name string) *object.Export {
	all := o.NamedHash(hash, name)
	for i := range all {
		if e := &all[i]; !e.Hidden && e.Type != elf.STT_GNU_IFUNC {
			return e
		}
	}
	return nil
}

// lfs64 are the functions for which musl, from 1.2.4 on, takes the one without the 64.
var lfs64 = func() map[string]bool {
	set := map[string]bool{}
	for _, n := range strings.Fields(`
		aio_cancel aio_error aio_fsync aio_read aio_return aio_suspend aio_write alphasort
		creat fallocate fgetpos fopen freopen fseeko fsetpos fstat fstatat fstatfs fstatvfs
		ftello ftruncate ftw getdents getrlimit glob globfree lio_listio lockf lseek lstat
		mkostemp mkostemps mkstemp mkstemps mmap nftw open openat posix_fadvise
		posix_fallocate pread preadv prlimit pwrite pwritev readdir scandir sendfile
		setrlimit stat statfs statvfs tmpfile truncate versionsort
		__fxstat __fxstatat __lxstat __xstat`) {
		set[n] = true
	}
	return set
}()
