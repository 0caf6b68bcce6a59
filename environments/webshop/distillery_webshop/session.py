"""One instruction being shopped for. See :class:`distillery.environments.base.Session`."""

from __future__ import annotations

from dataclasses import replace

from distillery.environments.base import Observation
from distillery_webshop import actions, pages
from distillery_webshop.compiled_shop import CompiledShop
from distillery_webshop.pages import Page
from distillery_webshop.products import Product
from distillery_webshop.reward import compute_reward

REFUSAL = "Invalid action!"


class WebShopSession:
    """A session of searches and clicks that ends with a purchase.

    Two rules are those of the agents' papers and not of the original's text environment: what isn't possible is
    answered by ``Invalid action!`` instead of the same page again, and a search needs a page with a search bar.
    """

    def __init__(self, shop: CompiledShop, goal: int, *, shown: int, attributes: bool) -> None:
        """Shop for a goal.

        Args:
            shop: where.
            goal: its number.
            shown: how many of the ten products of a result page are shown.
            attributes: whether a product's page has the button Attributes.
        """
        self._shop = shop
        self._goal = shop.goals[goal]
        self._shown = shown
        self._attributes = attributes
        self._results: list[int] = []
        self._result_page = 1
        self._number = -1
        self._product: Product | None = None
        self._options: dict[str, str] = {}
        self._earned: float | None = None
        self.reset()

    def reset(self) -> Observation:
        """Start over, with the search page."""
        self._earned = None
        return self._show(self._open_search())

    def step(self, action: str) -> Observation:
        """Carry out one action."""
        command = actions.parse_action(action)
        page = None
        if command and command.verb == actions.SEARCH and self._page.searchable:
            self._results = self._shop.search(command.argument)
            page = self._open_results(1)
        elif command and command.verb == actions.CLICK:
            page = self._click(command.argument)
        if page is None:
            return replace(self._observation, text=REFUSAL, valid=False)
        return self._show(page)

    def close(self) -> None:
        """Do nothing: the shop is shared."""

    def _click(self, what: str) -> Page | None:
        """Return the page that a click leads to; None where it isn't there to be clicked."""
        page = self._page
        # Where two can be clicked by the same words the last one is meant, as in the original.
        for name, value in reversed(page.options):
            if actions.squeeze(value) == what:
                self._options[name] = value
                return self._open_product()
        for place, asin in reversed(list(enumerate(page.products))):
            if asin.lower() == what:
                self._number = self._results[(self._result_page - 1) * pages.RESULTS_PER_PAGE + place]
                self._product = self._shop.read_product(self._number)
                return self._open_product()
        button = next((button for button in page.buttons if button.lower() == what), None)
        match button:
            case None:
                return None
            case pages.BACK_TO_SEARCH:
                return self._open_search()
            case pages.NEXT:
                return self._open_results(self._result_page + 1)
            case pages.BUY:
                return self._buy()
            case pages.PREVIOUS:
                return self._go_back(page)
            case _:
                assert self._product is not None
                return pages.render_text_page(self._goal.instruction, self._product, button)

    def _go_back(self, page: Page) -> Page:
        """Go from a text of a product to its page, from there to the results, from results to those before."""
        if pages.NEXT in page.buttons:
            return self._open_results(self._result_page - 1)
        if pages.BUY in page.buttons:
            return self._open_results(self._result_page)
        return self._open_product()

    def _open_search(self) -> Page:
        self._results = []
        self._leave_product()
        return pages.render_search_page(self._goal.instruction)

    def _open_results(self, number: int) -> Page:
        """Open a page of results. Chosen options are forgotten with the product's page, as in the original."""
        self._leave_product()
        self._result_page = number
        first = (number - 1) * pages.RESULTS_PER_PAGE
        shown = [self._shop.read_listing(result) for result in self._results[first : first + self._shown]]
        return pages.render_result_page(self._goal.instruction, number, len(self._results), shown)

    def _leave_product(self) -> None:
        self._product = None
        self._options = {}

    def _open_product(self) -> Page:
        assert self._product is not None
        return pages.render_product_page(self._goal.instruction, self._product, attributes=self._attributes)

    def _buy(self) -> Page:
        assert self._product is not None
        goal_product = self._shop.read_product(self._goal.product)
        self._earned = compute_reward(self._product, self._options, self._goal, goal_product, self._shop.nouns)
        return pages.render_last_page(self._product, self._options, self._earned)

    def _show(self, page: Page) -> Observation:
        self._page = page
        self._observation = Observation(
            page.text,
            score=self._earned or 0.0,
            done=self._earned is not None,
            success=self._earned == 1,
            admissible=tuple(f"{actions.CLICK}[{text}]" for text in page.list_clickable()),
        )
        return self._observation
