"""Keys that stay in files although the type of the panel changed; Grafana does not read them."""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LEFT_OVER: Final = _words(
    """
    aliasColors bars dashLength dashes decimals fill fillGradient grid hiddenSeries legend lines
    linewidth nullPointMode percentage pointradius points renderer seriesOverrides spaceLength
    stack steppedLine thresholds timeRegions tooltip x-axis xaxis y-axis y_formats yaxes yaxis
    zerofill leftYAxisLabel rightYAxisLabel colorBackground colorPostfix colorPrefix colorValue
    colors format gauge mappingType mappingTypes nullText postfix postfixFontSize prefix
    prefixFontSize rangeMaps sparkline tableColumn valueFontSize valueMaps valueName columns
    filterNull fontSize pageSize scroll showHeader sort styles transform cards color dataFormat
    heatmap hideZeroBuckets highlightCards reverseYBuckets xAxis xBucketNumber xBucketSize yAxis
    yBucketBound yBucketNumber yBucketSize breakPoint combine legendType pieType strokeWidth
    addons aliasColors cornerRadius colorMode crit displayName displayMode flipCard flipTime
    fontFormat isGrayOnNoData isHideAlertsOnDisable isIgnoreOKColors isAutoScrollOnOverflow
    isAlwaysShow maxAlertNumber fontAutoScale orientation statusType graphTooltip refresh
    schemaVersion version name h w x y tags content mode
    """
)
"""Of panels: those of retired types, of plugins, and of generators of dashboards."""

OPTION_NAMES: Final = _words(
    """
    alertThreshold barRadius barWidth bucketOffset bucketSize calcs calculate cellGap cellHeight
    code colorMode colorByField content displayLabels displayMode footer frameIndex
    fullHighlight graph graphMode groupWidth justifyMode legend mode orientation pieType
    reduceOptions showHeader showThresholdLabels showThresholdMarkers showUnfilled showValue
    sortBy stacking text textMode timezone tooltip valueMode xTickLabelRotation
    xTickLabelSpacing fieldOptions minVizHeight minVizWidth namePlacement sizing wideLayout
    percentChangeColorMode showPercentChange cellRadius dataLinks
    """
)
"""Options that Grafana writes for every type of panel, although only another type reads them."""
