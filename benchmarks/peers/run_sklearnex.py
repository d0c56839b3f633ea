"""scikit-learn with Intel's extension."""

from contest import compete
from sklearnex import patch_sklearn

patch_sklearn(verbose=False)

from run_sklearn import prepare  # noqa: E402  (its imports are to find the patched classes)

if __name__ == "__main__":
    compete(prepare)
