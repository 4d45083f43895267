module github.com/go-sourcemap/sourcemap

go 1.26.0
