"""Chromium without a window, for tests that use the page as a person does; skipped where it is missing."""

import json
import shutil
import time

import pytest

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Browser:
    """What the tests do in a browser."""

    def __init__(self, profile, downloads):
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
        binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
        if binary is None or driver is None:
            pytest.skip("there is no Chromium with its chromedriver on this machine")
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.actions = webdriver.ActionChains

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        return [text for text in (element.text.strip() for element in self.find(selector)) if text]

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                if result := condition():
                    return result
            except Exception as error:  # the page is being drawn anew
                if time.monotonic() > end:
                    raise AssertionError("the page did not change as expected") from error
            assert time.monotonic() < end, f"the page shows {self.texts('body')}"
            time.sleep(0.1)

    def open(self, url):
        self.driver.get(url)
        self.until(lambda: self.find("#picture input[type=file]") and self.texts("#overlay .overlay-hint"))

    def upload(self, file):
        self.find("#picture input[type=file]")[0].send_keys(str(file))

    def rows(self):
        return self.texts("#overlay tbody tr")

    def hosts(self):
        """The hosts that anything was asked of."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {url.split("/")[2].split(":")[0] for url in urls if url.startswith(("http", "ws"))}
