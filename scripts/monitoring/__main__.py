"""Write the generated files: python -m scripts.monitoring."""

from __future__ import annotations

from pathlib import Path

from scripts.monitoring.files import generated

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    for name, text in generated(ROOT).items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text)
        print(name)
